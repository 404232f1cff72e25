// The floor: a relay that looks at nothing. One connection to 127.0.0.1:PORT for each that comes in at the Unix socket,
// bytes copied both ways by one thread. It injects nothing and strips nothing: no proxy can cost less.
//
//     relay SOCKET PORT

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct end {
  int fd;
  struct end *other;
  size_t at, held; // bytes of buffer that the other side has not taken yet
  char *buffer;
};

enum { ROOM = 512 * 1024 };
static char hot[ROOM]; // read here; only what the other side does not take at once is kept

static void watch(int poll, int how, struct end *e, unsigned events) {
  struct epoll_event event = {.events = events, .data.ptr = e};
  epoll_ctl(poll, how, e->fd, &event);
}

static void drop(struct end *e) {
  shutdown(e->fd, SHUT_RDWR);
  shutdown(e->other->fd, SHUT_RDWR);
}

/** Sends what `from` has read and its other side has not taken. */
static void flush(int poll, struct end *from) {
  while (from->at < from->held) {
    ssize_t n = send(from->other->fd, from->buffer + from->at, from->held - from->at, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno != EAGAIN) drop(from);
      return;
    }
    from->at += (size_t)n;
  }
  from->at = from->held = 0;
  watch(poll, EPOLL_CTL_MOD, from, EPOLLIN);
  watch(poll, EPOLL_CTL_MOD, from->other, EPOLLIN);
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((unsigned short)atoi(argv[2]))};
  if (strlen(argv[1]) >= sizeof at.sun_path) return 2;
  strcpy(at.sun_path, argv[1]);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0), yes = 1;
  if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 1024) != 0) return 1;
  int poll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int n = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < n; i++) {
      struct end *e = events[i].data.ptr;
      if (e == NULL) {
        struct end *pair = calloc(2, sizeof *pair);
        pair[0].fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        pair[1].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (pair[0].fd < 0 || connect(pair[1].fd, (struct sockaddr *)&to, sizeof to) != 0) return 1;
        setsockopt(pair[1].fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        pair[0].other = &pair[1];
        pair[1].other = &pair[0];
        watch(poll, EPOLL_CTL_ADD, &pair[0], EPOLLIN);
        watch(poll, EPOLL_CTL_ADD, &pair[1], EPOLLIN);
        continue;
      }
      if (e->fd < 0) continue;
      if (events[i].events & EPOLLOUT) {
        flush(poll, e->other);
        continue;
      }
      ssize_t got = recv(e->fd, hot, sizeof hot, MSG_DONTWAIT);
      if (got <= 0) {
        if (got < 0 && errno == EAGAIN) continue;
        drop(e);
        struct end *other = e->other; // the pair is left allocated: a benchmark opens few
        close(e->fd);
        close(other->fd);
        e->fd = other->fd = -1;
        continue;
      }
      ssize_t sent = send(e->other->fd, hot, (size_t)got, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno != EAGAIN) drop(e);
      if (sent < 0) sent = 0;
      if (sent == got) continue;
      if (e->buffer == NULL) e->buffer = malloc(ROOM);
      e->held = (size_t)(got - sent);
      memcpy(e->buffer, hot + sent, e->held);
      watch(poll, EPOLL_CTL_MOD, e, 0);
      watch(poll, EPOLL_CTL_MOD, e->other, EPOLLOUT);
    }
  }
}
