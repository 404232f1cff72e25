import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { test } from 'tap'
import { FileError, prepareDirectory, removeFile, replaceFile } from '../../src/identity/file.ts'
import { directory } from './support.ts'

const root = process.getuid?.() === 0

async function trouble(act: () => unknown): Promise<string> {
  try {
    await act()
  } catch (error) {
    if (error instanceof FileError) return error.code
    throw error
  }
  return 'none'
}

test('a file has its mode and owner whatever the umask, and nothing is left beside it', async (t) => {
  const dir = directory(t)
  const path = join(dir, 'token')
  const umask = process.umask(0)
  replaceFile({ path, mode: 0o640, ...(root ? { uid: 1234, gid: 4321 } : {}) }, 'one')
  process.umask(0o777)
  replaceFile({ path, mode: 0o604, ...(root ? { uid: 1234, gid: 4321 } : {}) }, 'two')
  process.umask(umask)
  t.equal(readFileSync(path, 'utf8'), 'two')
  const { mode, uid, gid } = lstatSync(path)
  t.equal(mode & 0o7777, 0o604)
  if (root) t.strictSame([uid, gid], [1234, 4321])
  t.strictSame(readdirSync(dir), ['token'])
})

test('a reader never sees half a file, nor none', async (t) => {
  const path = join(directory(t), 'token')
  replaceFile({ path, mode: 0o600 }, 'a'.repeat(3000))
  const flag = new Int32Array(new SharedArrayBuffer(4))
  const worker = new Worker(
    `const { readFileSync } = require('node:fs'); const { workerData, parentPort } = require('node:worker_threads')
     let reads = 0, bad = 0
     const flag = new Int32Array(workerData.flag)
     const loop = () => { for (let i = 0; i < 200; i++) { reads++
       try { const s = readFileSync(workerData.path, 'latin1'); if (s.length !== 3000 || s !== s[0].repeat(3000)) bad++ } catch { bad++ } }
       if (Atomics.load(flag, 0) === 0) setImmediate(loop); else parentPort.postMessage({ reads, bad }) }
     loop()`,
    { eval: true, workerData: { path, flag: flag.buffer } },
  )
  await new Promise((done) => worker.once('online', done))
  for (let i = 0; i < 150; i++) replaceFile({ path, mode: 0o600 }, String.fromCharCode(98 + (i % 20)).repeat(3000))
  const seen = new Promise<{ reads: number; bad: number }>((done) => worker.once('message', done))
  Atomics.store(flag, 0, 1)
  const { reads, bad } = await seen
  await worker.terminate()
  t.comment(`${reads} reads while 150 files were replaced`)
  t.equal(bad, 0)
  t.ok(reads > 150)
})

test('a link in the place of the file is replaced, and what it points to is untouched', async (t) => {
  const dir = directory(t)
  writeFileSync(join(dir, 'precious'), 'kept')
  symlinkSync(join(dir, 'precious'), join(dir, 'token'))
  replaceFile({ path: join(dir, 'token'), mode: 0o600 }, 'new')
  t.equal(readFileSync(join(dir, 'precious'), 'utf8'), 'kept')
  t.equal(lstatSync(join(dir, 'token')).isFile(), true)
})

test('directories that others can play with are refused, and the old file stays', async (t) => {
  const dir = directory(t)
  const inside = join(dir, 'd')
  mkdirSync(inside)
  const place = { path: join(inside, 'token'), mode: 0o600 }
  replaceFile(place, 'old')
  chmodSync(inside, 0o777)
  t.equal(await trouble(() => replaceFile(place, 'new')), 'DIRECTORY_OPEN_TO_ALL')
  t.equal(readFileSync(place.path, 'utf8'), 'old')
  chmodSync(inside, 0o1777)
  t.equal(await trouble(() => replaceFile(place, 'new')), 'none', 'sticky: as /tmp')

  symlinkSync(inside, join(dir, 'link'))
  t.equal(await trouble(() => replaceFile({ path: join(dir, 'link/token'), mode: 0o600 }, 'x')), 'DIRECTORY_IS_LINK')
  t.equal(await trouble(() => removeFile({ path: join(dir, 'link/token'), mode: 0o600 })), 'DIRECTORY_IS_LINK')
  t.equal(await trouble(() => replaceFile({ path: join(dir, 'no/token'), mode: 0o600 }, 'x')), 'DIRECTORY_MISSING')
  t.equal(await trouble(() => replaceFile({ path: join(place.path, 'x'), mode: 0o600 }, 'x')), 'DIRECTORY_MISSING')
  t.equal(await trouble(() => replaceFile({ path: inside, mode: 0o600 }, 'x')), 'IS_DIRECTORY')
  t.strictSame(readdirSync(dir).sort(), ['d', 'link'], 'nothing half done is left')
  chmodSync(dir, 0o777)
  t.equal(await trouble(() => replaceFile(place, 'x')), 'DIRECTORY_OPEN_TO_ALL', 'and the directory above')
})

test('a user may have a file in a directory of their own, and lead nobody into another', { skip: !root }, async (t) => {
  const dir = directory(t)
  const home = join(dir, 'home')
  mkdirSync(join(home, 'd'), { recursive: true })
  chownSync(home, 1234, 1234)
  chownSync(join(home, 'd'), 1234, 1234)
  const place = { path: join(home, 'd/token'), mode: 0o600, uid: 1234, gid: 1234 }
  t.equal(await trouble(() => replaceFile(place, 'x')), 'none')
  t.equal(await trouble(() => replaceFile({ ...place, uid: 99 }, 'x')), 'DIRECTORY_OF_OTHERS')
  // The user puts a directory of root's where theirs was.
  mkdirSync(join(dir, 'etc'))
  renameSync(join(home, 'd'), join(home, 'e'))
  renameSync(join(dir, 'etc'), join(home, 'd'))
  t.equal(await trouble(() => replaceFile(place, 'x')), 'DIRECTORY_OF_OTHERS')
})

test('what an earlier run left half done is cleared away, and nothing else', async (t) => {
  const dir = directory(t)
  for (const name of ['.token.0123456789ab.tmp', '.token.tmp', '.other.0123456789ab.tmp', 'token'])
    writeFileSync(join(dir, name), '')
  prepareDirectory({ path: join(dir, 'token'), mode: 0o600 })
  t.strictSame(readdirSync(dir).sort(), ['.other.0123456789ab.tmp', '.token.tmp', 'token'])
  prepareDirectory({ path: join(dir, 'a/b/token'), mode: 0o600 })
  t.equal(lstatSync(join(dir, 'a/b')).mode & 0o777, 0o755)
})

test('removing tells whether there was a file', async (t) => {
  const place = { path: join(directory(t), 'token'), mode: 0o600 }
  t.equal(removeFile(place), false)
  replaceFile(place, 'x')
  t.equal(removeFile(place), true)
})
