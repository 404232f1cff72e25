// Who is `www-data:adm`: /etc/passwd and /etc/group, as an image has them, read without NSS.

import { readFileSync } from 'node:fs'
import { errnoOf } from './errno.ts'

export interface User {
  name: string
  uid: number
  gid: number
  /** Supplementary groups. */
  groups: number[]
  home: string
}

/** `user[:group]`, each a name or a number. A number that no line has gets gid = uid and home `/`, as in the real init.
 * Throws with what is wrong. `root` is where the two files are looked for, `/` but in tests. */
export function lookUp(word: string, root = '/'): User {
  const [who = '', group] = word.split(':')
  const people = table(`${root}/etc/passwd`)
  const groups = table(`${root}/etc/group`)
  const line = people.find(([name]) => name === who) ?? people.find(([, , uid]) => isNumber(who) && uid === who)
  let user: User
  if (line !== undefined) {
    const [name = '', , uid = '', gid = '', , home = ''] = line
    const also = groups
      .filter(([, , , members = '']) => members.split(',').includes(name))
      .map(([, , id]) => Number(id))
    user = { name, uid: id(uid), gid: id(gid), groups: also, home: home === '' ? '/' : home }
  } else if (isNumber(who)) user = { name: who, uid: id(who), gid: id(who), groups: [], home: '/' }
  else if (who === 'root') user = { name: 'root', uid: 0, gid: 0, groups: [], home: '/root' } // images without /etc/passwd
  else throw new Error(`user ${JSON.stringify(who)} is not in /etc/passwd: add it, or use a number`)
  if (group === undefined) return user
  const entry = groups.find(([name]) => name === group)
  if (entry === undefined && !isNumber(group))
    throw new Error(`group ${JSON.stringify(group)} is not in /etc/group: add it, or use a number`)
  // A group that was named is meant to be the only one.
  return { ...user, gid: id(entry?.[2] ?? group), groups: [] }
}

function table(path: string): string[][] {
  let text
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [] // an image from scratch has none
    throw error
  }
  return text.split('\n').map((line) => line.split(':'))
}

const isNumber = (word: string): boolean => /^[0-9]{1,10}$/.test(word)

/** -1, as 32 bits, means "leave as it is" to the kernel: never a user. */
function id(word: string): number {
  const number = isNumber(word) ? Number(word) : Number.NaN
  if (!(number < 0xffff_ffff)) throw new Error(`${JSON.stringify(word)} is not the number of a user or group`)
  return number
}
