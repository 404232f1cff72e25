// What people need passes byte for byte, though it holds the very names that the macaroon's caveats hold.

import { test } from 'tap'
import { credential, Dice } from '../../src/canary/credentials.ts'
import { secretMemory } from '../../src/proxy/secret.ts'
import { Needles, Strip } from '../../src/proxy/strip.ts'

const ROUNDS = process.env['DOTFLY_SLOW'] === '1' ? 1000 : 60
const EACH = 100 // of each kind of answer in a round; ten kinds

const hex = (dice: Dice, n: number): string =>
  dice
    .bytes(Math.ceil(n / 2))
    .toString('hex')
    .slice(0, n)
const uuid = (dice: Dice): string => hex(dice, 32).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')

test('answers with the same names as the macaroon pass untouched', async (t) => {
  let passed = 0
  for (let round = 0; round < ROUNDS; round++) {
    const dice = new Dice(`innocent:${round}`)
    const name = (): string => `a${dice.text(dice.below(63), 'abcdefghijklmnopqrstuvwxyz0123456789-')}`
    const names = { org: name(), app: name(), machine: dice.below(2) === 0 ? hex(dice, 14) : name() }
    const { value } = credential(dice, dice.pick(['v1', 'fm2', 'v1 with a third party', 'fm2 with a discharge']), names)
    const needles = new Needles(value, secretMemory(Needles.memory(value.length)))
    const { org, app, machine } = names
    const kinds: (() => string)[] = [
      // A JWT's payload puts the names at any of the three alignments: the ids before them vary in length.
      () =>
        `${Buffer.from(JSON.stringify({ alg: 'RS256', kid: dice.text(8), typ: 'JWT' })).toString('base64url')}.${Buffer.from(JSON.stringify({ app_id: String(dice.below(1e8)), app_name: app, aud: dice.text(dice.below(30)), exp: 1_800_000_600, iat: 1_800_000_000, image: `registry/${app}:deployment-${hex(dice, 26)}`, image_digest: `sha256:${hex(dice, 64)}`, iss: `https://oidc.fly.io/${org}`, jti: uuid(dice), machine_id: hex(dice, 14), machine_name: machine, nbf: 1_800_000_000, org_id: String(dice.below(1e8)), org_name: org, region: 'yyz', sub: `${org}:${app}:${machine}` })).toString('base64url')}.${dice.bytes(256).toString('base64url')}`,
      () =>
        JSON.stringify({
          id: hex(dice, 14),
          name: machine,
          state: 'started',
          region: 'ams',
          instance_id: dice.text(26),
          private_ip: 'fdaa:0:1:a7b:1::2',
          config: { env: { FLY_APP_NAME: app, X: '&&\\n%20=' }, image: `${app}@sha256:${hex(dice, 64)}` },
          events: [],
        }),
      () =>
        JSON.stringify({
          tokens: [
            {
              apps: [app],
              org_slug: org,
              organization: org,
              restricted_to_machine: machine,
              source_machine_id: machine,
              token_id: uuid(dice),
              user: null,
            },
          ],
        }),
      () => JSON.stringify({ [app]: machine, org, note: `org = ${org}\napp = ${app}\nmachine = ${machine}\n` }),
      () => `org = ${org}\napp = ${app}\nmachine = ${machine}\nhttps://api.fly.io/v1`,
      () =>
        dice.pick(['org = ', 'app = ', 'machine = ']) +
        Buffer.from(`${'x'.repeat(dice.below(3))}org = ${org} app = ${app} machine = ${machine}`).toString(
          dice.pick(['base64', 'base64url', 'hex'] as const),
        ),
      () => encodeURIComponent(JSON.stringify({ org, app, machine })),
      () => `${uuid(dice)} ${hex(dice, 64)} ${new Date(1_700_000_000_000 + dice.below(1e9)).toISOString()}`,
      () => `data: {"app":"${app}","line":"${machine} \\u001b[32mok\\u001b[0m"}\n\n`,
      () => dice.bytes(700).toString(dice.pick(['base64', 'latin1', 'hex'] as const)),
    ]
    for (const kind of kinds) {
      for (let i = 0; i < EACH; i++) {
        const body = Buffer.from(kind(), 'latin1')
        const strip = new Strip(needles)
        const out = Buffer.concat([Buffer.from(strip.push(Buffer.from(body))), strip.end()])
        if (out.equals(body) && strip.hits === 0) passed++
        else t.fail(`round ${round}: ${body.toString('latin1')}\n${out.toString('latin1')}`)
      }
    }
  }
  t.comment(`${passed} answers`)
  t.equal(passed, ROUNDS * EACH * 10)
})

test('short numbers pass, however many line breaks and NULs stand between them', async (t) => {
  const separators = ['\n'.repeat(12), '\0'.repeat(12), '\\n'.repeat(6), '\\r\\n'.repeat(3), '\\u0000'.repeat(2)]
  for (const format of ['v1', 'fm2']) {
    const { value } = credential(new Dice(`gaps:${format}`), format)
    const needles = new Needles(value, secretMemory(Needles.memory(value.length)))
    for (const separator of separators) {
      // Every seventeenth of all numbers of four digits: among them are some that stand in the hex of the credential.
      for (let n = 0; n < 10_000; n += 17) {
        const body = Buffer.from(`,${String(n).padStart(4, '0')}${separator},`)
        const strip = new Strip(needles)
        strip.push(body)
        if (strip.hits > 0) return t.fail(`${format}: ${JSON.stringify(body.toString())}`)
      }
    }
  }
  return t.pass()
})
