// The clients and the origin of all benchmarks: one thread, epoll, no allocation per request, so that what it costs is
// small beside any proxy, and the same for all.
//
//     wire load SOCKET REQUEST CONNECTIONS SECONDS REQUESTS   closed loop; ends at whichever limit comes first (0: none)
//     wire calls …                                          the same, and each request on a connection of its own
//     wire read SOCKET REQUEST                                one answer of any length, read as fast as it comes
//     wire hold SOCKET REQUEST CONNECTIONS                    one request on each, then idle until standard input ends
//     wire start SOCKET REQUEST MARK COMMAND [ARG…]           how long after its start it accepts, answers, and MARK
//                                                             exists (-: none)
//     wire run COMMAND [ARG…]                                 how long until it has ended
//     wire origin                                             serves /…/KIND/BYTES/HEADERS on 127.0.0.1, KIND length
//                                                             or chunked, any other path 700 bytes shaped like a token;
//                                                             prints its port
//
// REQUEST is a file of the bytes to send; eight @ in it become another number each time. Clients print one JSON line. Any error ends the program: a benchmark of
// errors is worth nothing.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  if (errno != 0) fprintf(stderr, " (%s)", strerror(errno));
  fputc('\n', stderr);
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/** CPU time of this process, ns. */
static uint64_t spent(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return ((uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec)) * 1000u;
}

static char *request;
static size_t request_length;
static char *request_number; // eight digits in it, or NULL

static void read_request(const char *path) {
  struct stat s;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &s) != 0) fail("cannot read %s", path);
  request_length = (size_t)s.st_size;
  request = malloc(request_length);
  if (read(fd, request, request_length) != (ssize_t)request_length) fail("cannot read %s", path);
  request_number = memmem(request, request_length, "@@@@@@@@", 8);
  close(fd);
}

/** A descriptor, or -1 when nobody listens there. */
static int try_dial(const char *path) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof to.sun_path) fail("the path of the socket is too long");
  strcpy(to.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
  close(fd);
  return -1;
}

static int dial(const char *path) {
  int fd = try_dial(path);
  if (fd < 0) fail("cannot connect to %s", path);
  return fd;
}

// ---- an answer, read a piece at a time

enum state { HEAD, FIXED, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, DONE };

struct answer {
  enum state state;
  uint64_t left; // of the body, or of the chunk
  uint64_t body; // bytes of it so far
  int close;     // it says so
  size_t held;   // bytes in line
  char line[32768];
};

static void begin(struct answer *a) {
  a->state = HEAD;
  a->held = 0;
  a->body = 0;
  a->close = 0;
}

static void head(struct answer *a) {
  a->line[a->held] = 0;
  if (strncmp(a->line, "HTTP/1.1 200", 12) != 0) {
    errno = 0;
    fail("the answer is not 200: %.200s", a->line);
  }
  int known = 0;
  a->left = 0;
  a->state = FIXED;
  for (char *line = strstr(a->line, "\r\n"); line != NULL && line[2] != 0; line = strstr(line + 2, "\r\n")) {
    char *name = line + 2;
    if (strncasecmp(name, "content-length:", 15) == 0) {
      a->left = strtoull(name + 15, NULL, 10);
      known = 1;
    } else if (strncasecmp(name, "transfer-encoding: chunked", 26) == 0) {
      a->state = CHUNK_SIZE;
      known = 1;
    } else if (strncasecmp(name, "connection: close", 17) == 0) {
      a->close = 1;
    }
  }
  errno = 0;
  if (!known) fail("the answer has no framing: %.400s", a->line);
  if (a->state == FIXED && a->left == 0) a->state = DONE;
  a->held = 0;
}

/** Takes bytes; whatever is left over after the end of an answer that nobody pipelined is an error. */
static void take(struct answer *a, const char *bytes, size_t n) {
  while (n > 0) {
    size_t some = n;
    switch (a->state) {
    case HEAD: {
      if (a->held + n >= sizeof a->line) some = sizeof a->line - 1 - a->held;
      errno = 0;
      if (some == 0) fail("the head of the answer is too long");
      memcpy(a->line + a->held, bytes, some);
      size_t from = a->held > 3 ? a->held - 3 : 0;
      char *end = memmem(a->line + from, a->held + some - from, "\r\n\r\n", 4);
      if (end == NULL) {
        a->held += some;
        break;
      }
      some = (size_t)(end + 4 - a->line) - a->held;
      a->held = (size_t)(end + 2 - a->line);
      head(a);
      break;
    }
    case FIXED:
    case CHUNK:
      if (some > a->left) some = (size_t)a->left;
      a->left -= some;
      a->body += some;
      if (a->left == 0) a->state = a->state == FIXED ? DONE : CHUNK_END;
      break;
    case CHUNK_SIZE:
    case CHUNK_END:
    case TRAILER: {
      const char *end = memchr(bytes, '\n', n);
      if (end != NULL) some = (size_t)(end + 1 - bytes);
      errno = 0;
      if (a->held + some >= 1024) fail("a line of the chunked answer is too long");
      memcpy(a->line + a->held, bytes, some);
      a->held += some;
      if (end == NULL) break;
      a->line[a->held] = 0;
      if (a->state == CHUNK_SIZE) {
        a->left = strtoull(a->line, NULL, 16);
        a->state = a->left == 0 ? TRAILER : CHUNK;
      } else if (a->state == CHUNK_END) {
        a->state = CHUNK_SIZE;
      } else if (a->held <= 2) {
        a->state = DONE;
      }
      a->held = 0;
      break;
    }
    case DONE:
      errno = 0;
      fail("bytes after the end of the answer: %.*s", (int)(n > 80 ? 80 : n), bytes);
    }
    bytes += some;
    n -= some;
  }
}

static char buffer[1 << 20];

// ---- load

struct client {
  int fd;
  uint64_t asked;
  struct answer answer;
};

static void join(int poll, struct client *c, const char *path) {
  c->fd = dial(path);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event) != 0) fail("epoll_ctl");
}

static void ask(struct client *c) {
  static unsigned number;
  if (request_number != NULL) {
    unsigned left = number++;
    for (int i = 7; i >= 0; i--, left /= 10) request_number[i] = (char)('0' + left % 10);
  }
  begin(&c->answer);
  c->asked = now();
  if (send(c->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) fail("cannot send a request");
}

/** Asks on a connection of its own, which counts. */
static void call(int poll, struct client *c, const char *path) {
  uint64_t since = now();
  join(poll, c, path);
  ask(c);
  c->asked = since;
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static void load(const char *path, int connections, double seconds, uint64_t limit, int calls) {
  int poll = epoll_create1(EPOLL_CLOEXEC);
  struct client *clients = calloc((size_t)connections, sizeof *clients);
  size_t room = 1 << 20, count = 0;
  uint32_t *latencies = malloc(room * sizeof *latencies); // 0.1 µs
  memset(latencies, 0, room * sizeof *latencies);         // no page faults later
  if (!calls)
    for (int i = 0; i < connections; i++) join(poll, &clients[i], path);
  uint64_t start = now(), cpu = spent();
  uint64_t end = seconds > 0 ? start + (uint64_t)(seconds * 1e9) : UINT64_MAX;
  uint64_t asked = 0;
  int busy = 0, reconnects = 0;
  for (int i = 0; i < connections; i++, busy++, asked++) calls ? call(poll, &clients[i], path) : ask(&clients[i]);
  struct epoll_event events[256];
  while (busy > 0) {
    int n = epoll_wait(poll, events, 256, 30000);
    if (n == 0) {
      errno = 0;
      fail("nothing came for 30 s");
    }
    for (int i = 0; i < n; i++) {
      struct client *c = events[i].data.ptr;
      ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
      if (got <= 0) fail("the connection was lost after %zu answers", count);
      take(&c->answer, buffer, (size_t)got);
      if (c->answer.state != DONE) continue;
      uint64_t at = now();
      if (count == room) {
        room *= 2;
        latencies = realloc(latencies, room * sizeof *latencies);
      }
      latencies[count++] = (uint32_t)((at - c->asked) / 100);
      if (calls || c->answer.close) close(c->fd);
      if (!calls && c->answer.close) {
        reconnects++;
        join(poll, c, path);
      }
      if (at < end && (limit == 0 || asked < limit)) {
        asked++;
        calls ? call(poll, c, path) : ask(c);
      } else {
        busy--;
      }
    }
  }
  double took = (double)(now() - start) / 1e9;
  cpu = spent() - cpu;
  qsort(latencies, count, sizeof *latencies, ascending);
#define AT(q) (latencies[(size_t)((double)(count - 1) * (q))] / 10.0)
  printf("{\"requests\":%zu,\"seconds\":%.6f,\"reconnects\":%d,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"cpu\":%llu}\n",
         count, took, reconnects, AT(0.5), AT(0.99), AT(0.999), AT(1.0), (unsigned long long)cpu);
}

// ---- read

static void read_all(const char *path) {
  static struct answer answer;
  uint64_t start = now(), first = 0;
  int fd = dial(path);
  begin(&answer);
  if (send(fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) fail("cannot send the request");
  while (answer.state != DONE) {
    ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got <= 0) fail("the connection was lost after %llu bytes", (unsigned long long)answer.body);
    if (first == 0) first = now();
    take(&answer, buffer, (size_t)got);
  }
  printf("{\"bytes\":%llu,\"seconds\":%.6f,\"first\":%.6f,\"cpu\":%llu}\n", (unsigned long long)answer.body,
         (double)(now() - start) / 1e9, (double)(first - start) / 1e9, (unsigned long long)spent());
}

// ---- start

static double since(uint64_t began) { return (double)(now() - began) / 1e6; }

static pid_t launch(char **command) {
  pid_t pid = fork();
  if (pid < 0) fail("fork");
  if (pid > 0) return pid;
  int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; fd++) dup2(null, fd);
  execvp(command[0], command);
  _exit(127);
}

static void run(char **command) {
  uint64_t began = now();
  int status;
  waitpid(launch(command), &status, 0);
  double ended = since(began);
  errno = 0;
  if (status != 0) fail("%s failed", command[0]);
  printf("{\"ended\":%.3f}\n", ended);
}

/** `mark` is a file that the program lets somebody write, or "-". Everything is looked for every 0.1 ms. */
static void start(const char *path, const char *mark, char **command) {
  static struct answer answer;
  uint64_t began = now();
  pid_t pid = launch(command);
  int fd = -1, status;
  double accepts = 0, answers = 0, runs = strcmp(mark, "-") == 0 ? -1 : 0;
  while (answers == 0 || runs == 0) {
    if (runs == 0 && access(mark, F_OK) == 0) runs = since(began);
    if (fd < 0 && (fd = try_dial(path)) >= 0) {
      accepts = since(began);
      begin(&answer);
      if (send(fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) fail("cannot send the request");
    }
    if (fd >= 0 && answers == 0) {
      ssize_t got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
      if (got > 0) take(&answer, buffer, (size_t)got);
      if (answer.state == DONE) answers = since(began);
      if (got == 0 && answers == 0) {
        kill(pid, SIGTERM);
        fail("the connection was lost");
      }
    }
    if (waitpid(pid, &status, WNOHANG) != 0 || since(began) > 30000) {
      kill(pid, SIGKILL);
      fail("%s does not serve", command[0]);
    }
    nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
  }
  close(fd);
  kill(pid, SIGTERM);
  waitpid(pid, &status, 0);
  printf("{\"accepts\":%.3f,\"answers\":%.3f,\"runs\":%.3f}\n", accepts, answers, runs);
}

// ---- hold

static void hold(const char *path, int connections) {
  static struct client one;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  errno = 0;
  if (files.rlim_max < (rlim_t)connections + 10) fail("only %lu files may be open: raise ulimit -n", (unsigned long)files.rlim_max);
  int *fds = malloc((size_t)connections * sizeof *fds);
  for (int i = 0; i < connections; i++) {
    one.fd = fds[i] = dial(path);
    ask(&one);
    while (one.answer.state != DONE) {
      ssize_t got = recv(one.fd, buffer, sizeof buffer, 0);
      if (got <= 0) fail("connection %d was lost", i);
      take(&one.answer, buffer, (size_t)got);
    }
  }
  printf("{\"held\":%d}\n", connections);
  fflush(stdout);
  while (read(0, buffer, sizeof buffer) > 0) continue;
  // Whoever closed them meanwhile has not held them.
  int lost = 0;
  for (int i = 0; i < connections; i++) lost += recv(fds[i], buffer, 1, MSG_DONTWAIT) == 0;
  errno = 0;
  if (lost > 0) fail("%d of the idle connections were closed", lost);
}

// ---- origin

#define BLOCK (256 * 1024)
static char text[BLOCK];  // what every body is made of: base64
static char token[700];
static char block[BLOCK + 16];
static size_t block_length;

struct server {
  int fd;
  size_t held;      // bytes of the request so far
  size_t skip;      // bytes of its body that are still to come
  char in[65536];
  size_t head, sent; // of the head
  uint64_t left;    // bytes of body or whole blocks
  size_t at;        // in the block
  int chunked;
  char out[65536];
};

static void more(int poll, struct server *s) {
  for (;;) {
    ssize_t n = 0;
    if (s->sent < s->head) {
      n = send(s->fd, s->out + s->sent, s->head - s->sent, MSG_NOSIGNAL | (s->left > 0 ? MSG_MORE : 0));
      if (n > 0) s->sent += (size_t)n;
    } else if (s->left > 0 && s->chunked) {
      n = send(s->fd, block + s->at, block_length - s->at, MSG_NOSIGNAL);
      if (n > 0 && (s->at += (size_t)n) == block_length) {
        s->at = 0;
        if (--s->left == 0) {
          memcpy(s->out, "0\r\n\r\n", 5);
          s->head = 5;
          s->sent = 0;
        }
      }
    } else if (s->left > 0) {
      uint64_t room = BLOCK - s->at;
      n = send(s->fd, text + s->at, room < s->left ? room : s->left, MSG_NOSIGNAL);
      if (n > 0) {
        s->left -= (uint64_t)n;
        s->at = (s->at + (size_t)n) % BLOCK;
      }
    } else {
      struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
      epoll_ctl(poll, EPOLL_CTL_MOD, s->fd, &event);
      return;
    }
    if (n < 0) {
      struct epoll_event event = {.events = EPOLLOUT, .data.ptr = s};
      if (errno == EAGAIN) epoll_ctl(poll, EPOLL_CTL_MOD, s->fd, &event);
      else close(s->fd), s->fd = -1;
      return;
    }
  }
}

/** The request in s->in, whose head ends at `end`. Only the last three parts of its path matter. */
static void answer(int poll, struct server *s, char *end) {
  char kind[16] = "";
  unsigned long long bytes = 0;
  int headers = 0;
  *end = 0;
  char *path_end = strstr(s->in, " HTTP/1.1");
  char *path = path_end == NULL ? NULL : memrchr(s->in, ' ', (size_t)(path_end - s->in));
  for (; path != NULL && path < path_end; path = memchr(path + 1, '/', (size_t)(path_end - path - 1)))
    if (sscanf(path, "/%15[a-z]/%llu/%d", kind, &bytes, &headers) == 3) break;
  int found = path != NULL && path < path_end;
  s->chunked = strcmp(kind, "chunked") == 0;
  char *o = s->out;
  o += sprintf(o, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n");
  for (int i = 0; i < headers; i++) o += sprintf(o, "X-Answer-%02d: of about the size that headers have\r\n", i);
  if (s->chunked) o += sprintf(o, "Transfer-Encoding: chunked\r\n\r\n");
  else o += sprintf(o, "Content-Length: %llu\r\n\r\n", found ? bytes : sizeof token);
  if (!found) {
    memcpy(o, token, sizeof token);
    o += sizeof token;
  }
  s->head = (size_t)(o - s->out);
  s->sent = 0;
  s->at = 0;
  s->left = !found ? 0 : s->chunked ? (bytes + BLOCK - 1) / BLOCK : bytes;
  more(poll, s);
}

static void origin(void) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  uint64_t seed = 88172645463325252u;
  for (size_t i = 0; i < BLOCK; i++) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    text[i] = digits[seed >> 58];
  }
  memset(token, 'a', sizeof token);
  token[60] = token[440] = '.';
  block_length = (size_t)sprintf(block, "%x\r\n", BLOCK);
  memcpy(block + block_length, text, BLOCK);
  block_length += BLOCK;
  block[block_length++] = '\r';
  block[block_length++] = '\n';

  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  if (listener < 0 || bind(listener, (struct sockaddr *)&at, size) != 0 || listen(listener, 1024) != 0 ||
      getsockname(listener, (struct sockaddr *)&at, &size) != 0)
    fail("cannot listen");
  printf("{\"port\":%d}\n", ntohs(at.sin_port));
  fflush(stdout);
  int poll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[64];
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int n = epoll_wait(poll, events, 64, -1);
    for (int i = 0; i < n; i++) {
      struct server *s = events[i].data.ptr;
      if (s == NULL) {
        s = calloc(1, sizeof *s);
        s->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (s->fd < 0) fail("cannot accept");
        setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        event = (struct epoll_event){.events = EPOLLIN, .data.ptr = s};
        epoll_ctl(poll, EPOLL_CTL_ADD, s->fd, &event);
        continue;
      }
      if (events[i].events & EPOLLOUT) {
        more(poll, s);
      } else {
        ssize_t got = recv(s->fd, s->in + s->held, sizeof s->in - 1 - s->held, 0);
        if (got <= 0) {
          close(s->fd);
          s->fd = -1;
        } else {
          s->held += (size_t)got;
          s->in[s->held] = 0;
          char *end = strstr(s->in, "\r\n\r\n");
          if (end == NULL) continue;
          char *length = strcasestr(s->in, "\r\ncontent-length:");
          size_t body = length == NULL || length > end ? 0 : strtoull(length + 17, NULL, 10);
          if (s->held < (size_t)(end + 4 - s->in) + body) continue;
          s->held = 0;
          answer(poll, s, end);
        }
      }
      if (s->fd < 0) free(s);
    }
  }
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (argc >= 4 && strcmp(mode, "run") != 0) read_request(argv[3]);
  int calls = strcmp(mode, "calls") == 0;
  if ((calls || strcmp(mode, "load") == 0) && argc == 7)
    load(argv[2], atoi(argv[4]), atof(argv[5]), strtoull(argv[6], NULL, 10), calls);
  else if (strcmp(mode, "read") == 0 && argc == 4)
    read_all(argv[2]);
  else if (strcmp(mode, "hold") == 0 && argc == 5)
    hold(argv[2], atoi(argv[4]));
  else if (strcmp(mode, "start") == 0 && argc >= 6)
    start(argv[2], argv[4], argv + 5);
  else if (strcmp(mode, "run") == 0 && argc >= 3)
    run(argv + 2);
  else if (strcmp(mode, "origin") == 0 && argc == 2)
    origin();
  else {
    errno = 0;
    fail("usage: see the head of wire.c");
  }
  return 0;
}
