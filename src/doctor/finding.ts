// The closed list of what doctor can find: for each, what is wrong and what to do about it. Two levels: `wrong` stops a
// program from getting or using its token, or lets others pass for it; `advice` does not, or not yet.

export interface Finding {
  readonly code: Code
  /** What it was found in: a path, a variable, a statement of a policy. */
  readonly about: string
  /** What is there. */
  readonly seen: string
  /** What should be. */
  readonly wanted: string
}

interface Explained {
  readonly level: 'wrong' | 'advice'
  readonly what: (finding: Finding) => string
  readonly fix: (finding: Finding) => string
}

export const FINDINGS = {
  SOCKET_MISSING: {
    level: 'wrong',
    what: ({ about }) => `there is no socket at ${about}`,
    fix: () => 'start dotfly init or dotfly proxy, or name the socket with --socket',
  },
  SOCKET_NOT_A_SOCKET: {
    level: 'wrong',
    what: ({ about }) => `${about} is not a socket`,
    fix: ({ about }) => `name the socket with --socket, or move that away and start dotfly proxy --socket ${about}`,
  },
  SOCKET_FORBIDDEN: {
    level: 'wrong',
    what: ({ about, seen }) =>
      `${about} may not be used by ${seen}: connecting needs its write bit, and x on its directories`,
    fix: ({ about, wanted }) => `serve it with --socket ${about},${wanted}`,
  },
  SOCKET_DEAD: {
    level: 'wrong',
    what: ({ about }) => `nobody listens at ${about}`,
    fix: () => 'start dotfly proxy, or see in its log why it ended',
  },
  FLYD_UNREACHABLE: {
    level: 'wrong',
    what: ({ about }) => `flyd is unreachable behind ${about}`,
    fix: () => 'check --flyd of dotfly proxy; on Fly, try again: the host may be busy',
  },
  FLYD_SLOW: {
    level: 'wrong',
    what: ({ about }) => `flyd does not answer in time behind ${about}`,
    fix: () => 'try again; when it stays so, move the Machine to another host',
  },
  RATE_LIMITED: {
    level: 'advice',
    what: ({ about }) => `${about} takes no more requests for now: somebody in this Machine asks for many tokens`,
    fix: () => 'keep a token for minutes, as a token file does: flyd gives one a second',
  },
  TOKEN_NOT_SERVED: {
    level: 'wrong',
    what: ({ about }) => `${about} serves no ID tokens`,
    fix: () => 'serve it with policy=token or policy=self',
  },
  TOKEN_NOT_ALLOWED: {
    level: 'wrong',
    what: ({ about }) => `${about} does not give this user or Machine a token`,
    fix: () => "use the socket of this user (its uid=), and check that the macaroon is this Machine's and not expired",
  },
  TOKEN_REFUSED: {
    level: 'wrong',
    what: ({ about, seen }) => `${about} answers a request for a token with ${seen}`,
    fix: () => 'is the audience right? otherwise check --flyd of dotfly proxy, and its log',
  },
  AUDIENCE_NOT_ALLOWED: {
    level: 'wrong',
    what: ({ about, seen }) => `${about} does not allow the audience ${seen}`,
    fix: ({ seen }) => `add aud=${seen} to its --socket`,
  },
  CLOCK_BEHIND: {
    level: 'wrong',
    what: ({ seen }) => `the clock of this Machine is ${seen} behind the issuer's`,
    fix: () => 'set it, and run chrony or systemd-timesyncd: programs here take a fresh token for not yet valid',
  },
  CLOCK_AHEAD: {
    level: 'wrong',
    what: ({ seen }) => `the clock of this Machine is ${seen} ahead of the issuer's`,
    fix: () => 'set it, and run chrony or systemd-timesyncd: programs here take a good token for expired',
  },
  ISSUER_ALIAS: {
    level: 'wrong',
    what: ({ about, seen, wanted }) => `${about} has ${seen}, an alias, and tokens say ${wanted}`,
    fix: ({ wanted }) => `register ${wanted}: "personal" is answered by the web server and never is in a token`,
  },
  ISSUER_SLASH: {
    level: 'wrong',
    what: ({ about, seen, wanted }) => `${about} has ${seen}, tokens say ${wanted}: a slash at the end is a difference`,
    fix: ({ wanted }) => `register exactly ${wanted}`,
  },
  ISSUER_OTHER: {
    level: 'wrong',
    what: ({ about, seen, wanted }) => `${about} has the issuer ${seen}, tokens say ${wanted}`,
    fix: ({ wanted }) => `register exactly ${wanted}`,
  },
  POLICY_UNREADABLE: {
    level: 'wrong',
    what: ({ about }) => `${about} is not a trust policy in JSON`,
    fix: () => 'give it what aws iam get-role prints, or the policy document itself',
  },
  POLICY_WITHOUT_WEB_IDENTITY: {
    level: 'wrong',
    what: ({ about }) => `${about} lets nobody in by token`,
    fix: () => 'add a statement: Effect Allow, Action sts:AssumeRoleWithWebIdentity, Principal Federated the provider',
  },
  AUDIENCE_UNCHECKED: {
    level: 'wrong',
    what: ({ about }) => `${about} takes a token for any audience that the provider knows`,
    fix: ({ wanted }) => `add StringEquals {"${wanted}:aud": "sts.amazonaws.com"}`,
  },
  AUDIENCE_MISMATCH: {
    level: 'wrong',
    what: ({ about, seen, wanted }) => `${about} wants the audience ${seen}, and tokens have ${wanted}`,
    fix: ({ wanted }) => `put ${wanted} into the condition and into the provider's list of client ids`,
  },
  SUB_UNCHECKED: {
    level: 'wrong',
    what: ({ about }) => `${about} has no condition on sub: every Machine of the organization gets in`,
    fix: ({ wanted }) => `add StringLike {"${wanted}"}`,
  },
  SUB_STRING_EQUALS_WILDCARD: {
    level: 'wrong',
    what: ({ about, seen }) => `${about} compares ${seen} by StringEquals, which takes * and ? for themselves`,
    fix: () => 'use StringLike',
  },
  SUB_WITHOUT_COLON: {
    level: 'wrong',
    what: ({ about, seen }) => `${about} has ${seen}, which also matches every longer name that begins so`,
    fix: ({ wanted }) => `write ${wanted}, with the colon before the star`,
  },
  SUB_ANYBODY: {
    level: 'wrong',
    what: ({ about, seen }) => `${about} has ${seen}, which matches other organizations too`,
    fix: ({ wanted }) => `begin with the organization: ${wanted}`,
  },
  SUB_ALIAS: {
    level: 'wrong',
    what: ({ about, seen }) => `${about} has ${seen}: "personal" is an alias and never is in a token`,
    fix: ({ wanted }) => `write the real name of the organization: ${wanted}`,
  },
  SUB_MISMATCH: {
    level: 'wrong',
    what: ({ about, seen, wanted }) => `${about} allows ${seen}, and this Machine is ${wanted}`,
    fix: () => 'change the condition, or run this where it is allowed; names are compared with their case',
  },
  SUB_FOR_ALL_VALUES: {
    level: 'wrong',
    what: ({ about, seen }) => `${about} uses ${seen}, which is true of a token without that claim`,
    fix: () => 'leave ForAllValues: out, sub and aud are single values',
  },
  CONDITION_OF_ANOTHER_PROVIDER: {
    level: 'wrong',
    what: ({ about, seen, wanted }) => `${about} has a condition on ${seen}, a key of another provider than ${wanted}`,
    fix: ({ wanted }) => `begin the key with ${wanted}:`,
  },
  TAG_SESSION_MISSING: {
    level: 'wrong',
    what: ({ about }) => `${about} does not allow sts:TagSession, and tokens with tags are refused without it`,
    fix: () => 'add sts:TagSession to the Action, or leave --aws-principal-tags out',
  },
  AZURE_ONE_MACHINE_EACH: {
    level: 'advice',
    what: ({ seen }) => `Azure compares sub letter by letter, and ${seen} ends in the name of this one Machine`,
    fix: () =>
      'add a federated credential for each Machine, at most 20 an application, and give Machines lasting names',
  },
  GCP_SUBJECT_TOO_LONG: {
    level: 'wrong',
    what: ({ seen }) => `sub is ${seen} bytes long, and google.subject takes 127`,
    fix: () => 'map google.subject to assertion.machine_id, or choose shorter names',
  },
  FILE_MISSING: {
    level: 'wrong',
    what: ({ about }) => `there is no token file ${about}`,
    fix: () => 'see the log of dotfly init or dotfly keep for its path: it says why',
  },
  FILE_OWNER: {
    level: 'wrong',
    what: ({ about, seen, wanted }) => `${about} belongs to uid ${seen}, and ${wanted} is to read it`,
    fix: ({ wanted }) =>
      `give dotfly init that user by --user, or keep a file for it with --token-file PATH,aud=AUDIENCE,uid=${wanted}`,
  },
  FILE_MODE: {
    level: 'wrong',
    what: ({ about, seen, wanted }) => `${about} has mode ${seen}, it was to have ${wanted}`,
    fix: ({ wanted }) => `do not chmod it, the next token undoes that: set mode=${wanted}, and see who changed it`,
  },
  FILE_EXPIRED: {
    level: 'wrong',
    what: ({ about, seen }) => `the token in ${about} expired ${seen} ago`,
    fix: () => 'nobody keeps the file: is dotfly init or dotfly keep running, and is the path theirs?',
  },
  FILE_OLD: {
    level: 'advice',
    what: ({ about, seen }) => `the token in ${about} is ${seen} old and was not replaced in time`,
    fix: () => 'see the log of dotfly init or dotfly keep for its path: it says why',
  },
  FILE_NOT_A_TOKEN: {
    level: 'wrong',
    what: ({ about }) => `${about} holds no token`,
    fix: () => 'remove it: dotfly writes it whole or not at all, so somebody else wrote this',
  },
  FILE_DIRECTORY: {
    level: 'wrong',
    what: ({ about, seen }) => `the directory of ${about} is not safe (${seen})`,
    fix: () => 'use a directory of root or of the user, no link, and not writable by everybody',
  },
  VARIABLE_MALFORMED: {
    level: 'wrong',
    what: ({ about, seen }) => `${about} ${seen}`,
    fix: ({ about }) => `set ${about} right and start again`,
  },
  STATIC_KEYS_WIN: {
    level: 'wrong',
    what: ({ about }) => `${about} is set, and SDKs take it before any token`,
    fix: ({ about }) => `unset ${about}: fly secrets unset ${about}`,
  },
  VARIABLE_KEPT: {
    level: 'advice',
    what: ({ about, seen }) => `${about} names ${seen}, which is not the file that dotfly would keep for it`,
    fix: ({ about }) => `give doctor the --token-dir of dotfly init, or unset ${about} to have it set`,
  },
  PROFILE_MAY_WIN: {
    level: 'advice',
    what: ({ about }) => `${about} is set, and a profile of that name comes before any token`,
    fix: ({ about }) => `unset ${about}`,
  },
  SESSION_NAME_INVALID: {
    level: 'wrong',
    what: ({ about }) => `${about} is no session name that STS takes`,
    fix: ({ about }) => `unset ${about}, or use 2 to 64 of letters, digits and _+=,.@-`,
  },
  HARDENING_OFF: {
    level: 'advice',
    what: ({ about, seen }) => `the defence "${about}" is off (${seen})`,
    fix: ({ about }) =>
      `run dotfly init as the Machine's first process, without ${about} in --no-harden; in a container the kernel is the host's to harden`,
  },
} as const satisfies Record<string, Explained>

export type Code = keyof typeof FINDINGS

export const isWrong = ({ code }: Finding): boolean => FINDINGS[code].level === 'wrong'

export const explain = (finding: Finding): { level: 'wrong' | 'advice'; what: string; fix: string } => {
  const { level, what, fix }: Explained = FINDINGS[finding.code]
  return { level, what: what(finding), fix: fix(finding) }
}
