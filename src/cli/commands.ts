// The commands that there are. Each is loaded when it is asked for: the proxy must not carry an HTTP client, nor a
// token request the launcher.

import type { Grammar } from './arguments.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** A command's own words and its environment in, its exit code out. */
export type Run = (words: readonly string[], env: Environment) => Promise<number>

export interface Command {
  run: Run
  grammar: Grammar
}

export const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  proxy: () => import('./proxy.ts').then(({ proxy: run, grammar }) => ({ run, grammar })),
  init: () => import('./init.ts').then(({ init: run, grammar }) => ({ run, grammar })),
  token: () => import('./token.ts').then(({ token: run, grammar }) => ({ run, grammar })),
  keep: () => import('./keep.ts').then(({ keep: run, grammar }) => ({ run, grammar })),
  doctor: () => import('./doctor.ts').then(({ doctor: run, grammar }) => ({ run, grammar })),
  mock: () => import('./mock.ts').then(({ mock: run, grammar }) => ({ run, grammar })),
  demo: () => import('./demo.ts').then(({ demo: run, grammar }) => ({ run, grammar })),
  strip: () => import('./strip.ts').then(({ strip: run, grammar }) => ({ run, grammar })),
  canary: () => import('./canary.ts').then(({ canary: run, grammar }) => ({ run, grammar })),
  completion: () => import('./completion.ts').then(({ completion: run, grammar }) => ({ run, grammar })),
  man: () => import('./man.ts').then(({ man: run, grammar }) => ({ run, grammar })),
}

export const HELP = `Usage: dotfly COMMAND [OPTION…]

    dotfly proxy        serve the socket, and never let the macaroon out
    dotfly init         be the Machine's init: supervise COMMAND and the proxy
    dotfly token        print an ID token for this Machine
    dotfly keep         keep token files fresh
    dotfly doctor       explain what is wrong with this Machine's set-up
    dotfly mock         run a mock flyd, issuer and clouds on this computer
    dotfly demo         mock and proxy together, ready for curl
    dotfly strip        blank the macaroon in a stream, and say where it was
    dotfly canary       prove that nothing leaks, against a hostile flyd
    dotfly completion   complete commands and options in bash, zsh or fish
    dotfly man          print the manual page

    -h, --help          this text; dotfly COMMAND --help explains a command
    -V, --version       print the version, with the commit where it is known

Exit codes: 0 done, 1 failed, 2 wrong usage, 128+N ended by signal N.

Example:

    dotfly token --aud sts.amazonaws.com
`
