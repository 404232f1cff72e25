// --macaroon-unlink: init is root, and overwrites the file that it has read, or none.

import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { test, type Test } from 'tap'
import { loadMacaroon } from '../../src/init/credential.ts'
import { erase } from '../../src/init/erase.ts'
import { CREDENTIAL } from '../support/corpus.ts'

const LINE = `${CREDENTIAL}\n`
const OTHER = 'root:x:0:0:root:/root:/bin/sh\n'.repeat(100)

interface Place {
  readonly file: string
  /** Of the file, for reading, whatever becomes of its name. */
  readonly fd: number
  readonly other: string
}

function place(t: Test): Place {
  const directory = t.testdir({ macaroon: LINE, other: OTHER })
  const file = `${directory}/macaroon`
  const fd = openSync(file, 'r')
  t.teardown(() => closeSync(fd))
  return { file, fd, other: `${directory}/other` }
}

const content = (fd: number): string => readFileSync(`/proc/self/fd/${fd}`, 'latin1')

test('the file that was read is overwritten, all of it, and removed', (t) => {
  const { file, fd } = place(t)
  closeSync(loadMacaroon({ file, unlink: true }).fd)
  t.notOk(existsSync(file))
  t.equal(content(fd), '\0'.repeat(LINE.length))
  t.end()
})

test('without --macaroon-unlink it stays as it is', (t) => {
  const { file, fd } = place(t)
  closeSync(loadMacaroon({ file }).fd)
  t.equal(content(fd), LINE)
  t.ok(existsSync(file))
  t.end()
})

test('a file that this user may not read is said to be that, and so is a directory', (t) => {
  const { file } = place(t)
  t.throws(() => loadMacaroon({ file: dirname(file) }), { message: `macaroon file ${dirname(file)} is a directory` })
  chmodSync(file, 0)
  const root = process.geteuid?.() === 0
  if (root) process.seteuid?.(1001)
  try {
    t.throws(() => loadMacaroon({ file }), {
      message: `macaroon file ${file} may not be read by uid ${process.geteuid?.()}: give it to that user, or start dotfly as its owner`,
    })
  } finally {
    if (root) process.seteuid?.(0)
  }
  t.end()
})

const SWAPS: Record<string, (place: Place) => void> = {
  'another file': ({ file, other }) => renameSync(other, file),
  'a link to another file': ({ file, other }) => {
    rmSync(file)
    symlinkSync(other, file)
  },
}

for (const [what, swap] of Object.entries(SWAPS)) {
  test(`${what} that takes its place while it is read is neither overwritten nor removed`, (t) => {
    const it = place(t)
    const victim = openSync(it.other, 'r')
    t.teardown(() => closeSync(victim))
    swap(it)
    t.throws(() => erase(it.file, it.fd, LINE.length, 'macaroon file F'), {
      name: 'LaunchError',
      message: /^macaroon file F is (?:another file than the one that was read|a symbolic link)/,
    })
    t.equal(content(victim), OTHER)
    t.ok(lstatSync(it.file), 'what is there stays')
    t.equal(content(it.fd), LINE)
    t.end()
  })
}

test('a link is read, as a Pod mounts a secret, and refused with --macaroon-unlink', (t) => {
  const { file, fd } = place(t)
  const link = `${file}.link`
  symlinkSync(file, link)
  closeSync(loadMacaroon({ file: link }).fd)
  t.throws(() => loadMacaroon({ file: link, unlink: true }), {
    name: 'LaunchError',
    message: `macaroon file ${link} is a symbolic link: name the file itself, or leave out --macaroon-unlink`,
  })
  t.equal(content(fd), LINE)
  t.ok(lstatSync(link).isSymbolicLink())
  t.end()
})

test('a fifo has nothing to overwrite: its name is removed', (t) => {
  const fifo = `${t.testdir()}/fifo`
  t.equal(spawnSync('mkfifo', [fifo]).status, 0)
  const keeps = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK)
  t.teardown(() => closeSync(keeps))
  const host = openSync(fifo, 'w')
  writeSync(host, LINE)
  closeSync(host)
  closeSync(loadMacaroon({ file: fifo, unlink: true }).fd)
  t.notOk(existsSync(fifo))
  t.ok(fstatSync(keeps).isFIFO())
  t.end()
})

test('so has a device, which udev names by a link', (t) => {
  const link = `${t.testdir()}/device`
  symlinkSync('/dev/null', link)
  const fd = openSync(link, 'r')
  t.teardown(() => closeSync(fd))
  erase(link, fd, 10, 'macaroon file F')
  t.notOk(existsSync(link))
  t.ok(lstatSync('/dev/null').isCharacterDevice())
  t.end()
})
