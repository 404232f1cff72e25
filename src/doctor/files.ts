// Token files as they lie there, for whoever is to read them.

import { lstatSync } from 'node:fs'
import { dirname } from 'node:path'
import type { TokenFile } from '../identity/cloud.ts'
import { FileError, judgeDirectory, readPlaced } from '../identity/file.ts'
import { lifeOf } from '../identity/life.ts'
import type { Code, Finding } from './finding.ts'

/** The file as it was asked for; where somebody else named it, only its path is known. */
export type Expected = Pick<TokenFile, 'path'> & Partial<TokenFile>

export function reviewFile(file: Expected, now: number): Finding[] {
  const { path, uid, mode } = file
  const finding = (code: Code, seen = '', wanted = ''): Finding => ({ code, about: path, seen, wanted })
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return [finding('FILE_MISSING')]
  const findings: Finding[] = []
  const directory = lstatSync(dirname(path))
  const fault = directory.isSymbolicLink() ? 'DIRECTORY_IS_LINK' : judgeDirectory(dirname(path), directory, file)
  if (fault !== undefined) findings.push(finding('FILE_DIRECTORY', fault))
  if (uid !== undefined && found.uid !== uid) findings.push(finding('FILE_OWNER', String(found.uid), String(uid)))
  if (mode !== undefined && (found.mode & 0o777) !== mode)
    findings.push(finding('FILE_MODE', octal(found.mode & 0o777), octal(mode)))
  const text = textOf(file)
  if (text === undefined) {
    const me = process.geteuid?.() ?? 0
    return [...findings, ...(found.uid === me ? [] : [finding('FILE_OWNER', String(found.uid), String(me))])]
  }
  const life = lifeOf(/[\w-]+\.[\w-]+\.[\w-]+/.exec(text)?.[0] ?? '')
  if (life === undefined) return [...findings, finding('FILE_NOT_A_TOKEN')]
  const past = now / 1000 - life.exp
  const age = now / 1000 - life.iat
  if (past >= 0) findings.push(finding('FILE_EXPIRED', `${Math.round(past)} s`))
  // Past 85 % of its life two or more attempts have failed.
  else if (age > (life.exp - life.iat) * 0.85) findings.push(finding('FILE_OLD', `${Math.round(age)} s`))
  return findings
}

const octal = (mode: number): string => `0${mode.toString(8)}`

/** Undefined where this user may not read it. */
function textOf(file: Expected): string | undefined {
  try {
    return readPlaced({ path: file.path, mode: 0 })
  } catch (error) {
    if (error instanceof FileError && error.code === 'NOT_PERMITTED') return undefined
    throw error
  }
}
