// dotfly doctor: what is wrong with this Machine's set-up, and the fix.

import { readFileSync } from 'node:fs'
import { Failure, unreadable, UsageError } from '../errors.ts'
import type { Examination } from '../doctor/examine.ts'
import { explain, isWrong } from '../doctor/finding.ts'
import { identityOptions, type IdentityWords } from '../identity/options.ts'
import { type Grammar, readArguments } from './arguments.ts'
import { PROBLEM } from './keep.ts'
import type { Environment } from './commands.ts'
import { printable, printableJson, shown } from './printable.ts'
import { socketPath, socketWords } from './sockets.ts'
import { coloured, folded, patiently } from './terminal.ts'

const HELP = `Usage: dotfly doctor [OPTION…]

Looks at this Machine as a program in it sees it, and says what is wrong with its
identity and how to mend it. Changes nothing. Run it with the environment and as the
user of the program that has the trouble.

    --socket PATH         the socket to look at; default /.fly/api
                                                         DOTFLY_SOCKET
    --aud AUDIENCE        also ask for a token for it
    --issuer URL          the issuer as you registered it with a cloud
    --trust-policy FILE   an IAM role's trust policy, or what aws iam get-role
                          prints: is it too wide, and does it fit this Machine?
    --token-file, --token-dir, --aws-principal-tags
                          as in dotfly keep --help
    --json                print {"ok", "token", "findings", "hardening"}
    -h, --help            this text

Exit codes: 0 nothing is wrong (there may be advice), 1 something is or it could not
look, 2 wrong usage.

Example:

    dotfly doctor --issuer https://oidc.fly.io/example --trust-policy role.json
`

export const grammar: Grammar = {
  name: 'doctor',
  help: HELP,
  declare: (command) =>
    command
      .option('--socket <path>')
      .option('--aud <audience>')
      .option('--issuer <url>')
      .option('--trust-policy <file>')
      .several('--token-file <file>')
      .option('--token-dir <dir>')
      .option('--aws-principal-tags')
      .option('--json'),
}

interface Words extends IdentityWords {
  socket?: string
  aud?: string
  issuer?: string
  trustPolicy?: string
  json?: true
}

export async function doctor(words: readonly string[], env: Environment): Promise<number> {
  const asked = await readArguments(grammar, words, (command) => {
    const typed = command.opts<Words>()
    return { examination: judge(typed, env), json: typed.json === true }
  })
  if (asked === undefined) return 0
  const { examine } = await import('../doctor/examine.ts')
  const { hardeningHere } = await hardening(asked.examination.identity.socket)
  const {
    findings,
    token,
    hardening: defences,
  } = await patiently('asking for tokens', () => examine({ ...asked.examination, hardening: hardeningHere }))
  const explained = findings.map((finding) => ({ code: finding.code, about: finding.about, ...explain(finding) }))
  const ok = !findings.some(isWrong)
  if (asked.json) {
    process.stdout.write(`${printableJson({ ok, token: token ?? null, findings: explained, hardening: defences })}\n`)
    return ok ? 0 : 1
  }
  if (token !== undefined) say(`token   iss ${token.iss}\n        sub ${token.sub}\n        aud ${token.aud}`)
  for (const state of ['on', 'off', 'unknown'] as const) {
    const those = defences.filter((defence) => defence.state === state)
    // Why one is off is the finding's to say.
    const lines =
      state === 'unknown'
        ? those.map(({ step, because }) => folded(`${step}: ${because}`, 8, 8)).join('\n        ')
        : folded(those.map(({ step }) => step).join(', '), 8, 8)
    if (those.length > 0) say(`${state.padEnd(7)} ${lines}`)
  }
  for (const { level, code, what, fix } of explained) {
    process.stdout.write(coloured(level === 'wrong' ? 'red' : 'yellow', level.padEnd(7)))
    say(` ${folded(`${what} [${code}]`, 8, 8)}\n        ${folded(`fix: ${fix}`, 8, 8)}`)
  }
  if (findings.length === 0) process.stdout.write(`${coloured('green', 'nothing is wrong')}\n`)
  return ok ? 0 : 1
}

function judge(typed: Words, env: Environment): Examination {
  const [socket = ''] = (typed.socket ?? socketWords(env)[0] ?? '').split(',')
  if (typed.issuer !== undefined && !URL.canParse(typed.issuer))
    throw new UsageError(`issuer ${shown(typed.issuer)} is not a URL, such as https://oidc.fly.io/example`)
  return {
    env,
    identity: identityOptions(typed, env, socketPath(socket)),
    problems: PROBLEM,
    ...(typed.aud === undefined ? {} : { audience: typed.aud }),
    ...(typed.issuer === undefined ? {} : { issuer: typed.issuer }),
    ...(typed.trustPolicy === undefined ? {} : { policy: policyIn(typed.trustPolicy) }),
  }
}

function policyIn(path: string): { name: string; text: string } {
  try {
    return { name: printable(path), text: readFileSync(path, 'utf8') }
  } catch (caught) {
    throw new Failure(
      `trust policy ${printable(path)} ${unreadable(caught)}: write it with aws iam get-role --role-name ROLE > FILE`,
      { cause: caught },
    )
  }
}

/** How the Machine is defended, as far as this user can see; nothing where no proxy runs that could be looked at. */
async function hardening(socket: string): Promise<{ hardeningHere: NonNullable<Examination['hardening']> }> {
  const { proxyBehind } = await import('../doctor/proxy.ts')
  const proxy = proxyBehind(socket)
  if (proxy === undefined) return { hardeningHere: () => [] }
  const { hardeningOf } = await import('../init/harden.ts')
  return { hardeningHere: () => hardeningOf(proxy.parent, proxy.pid) }
}

const say = (text: string): boolean => process.stdout.write(`${text.split('\n').map(printable).join('\n')}\n`)
