// Makes test/corpus/{request,response}/*.http: one attack or one real client each. `node test/corpus/make.ts` writes
// them; test/proxy/corpus.test.ts checks that they are what this table makes.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { CORPUS, CREDENTIAL, JWT, OWN } from '../support/corpus.ts'

const made = new Map<string, Buffer>()

interface Says {
  /** `200`, `400 REQUEST_MALFORMED`, several parted by commas; `none` for a silent close. */
  expect: string
  /** Requests that reach flyd. */
  flyd?: number
  /** `then:` in the file. */
  after?: 'open' | 'close'
  /** Which socket: self, token, all, aud (self, one audience), allow (self and some patterns). */
  policy?: string
  /** Ids of attacks.md, or `compat` with a client of fly.md. */
  id: string
  /** What flyd must be sent: method, target, body. */
  to?: string | string[] | undefined
  more?: string
}

function file(path: string, says: Record<string, string | string[] | undefined>, bytes: string | Buffer): void {
  if (made.has(path)) throw new Error(`${path} is made twice`)
  const lines = Object.entries(says).flatMap(([key, value]) =>
    value === undefined ? [] : [value].flat().map((one) => `${key === 'after' ? 'then' : key}: ${one}\n`),
  )
  made.set(path, Buffer.concat([Buffer.from(`${lines.join('')}\n`), typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes]))
}

function request(name: string, says: Says, comment: string, bytes: string | Buffer): void {
  const accepted = says.expect.startsWith('2')
  file(
    `request/${name}.http`,
    {
      expect: says.expect,
      flyd: String(says.flyd ?? (accepted ? 1 : 0)),
      // Behind these nothing is believed.
      after: says.expect === '400 TARGET_MALFORMED' ? 'close' : (says.after ?? (accepted ? 'open' : 'close')),
      policy: says.policy,
      id: says.id,
      'to-flyd': says.to,
      'half-close': says.more,
      comment,
    },
    bytes,
  )
}

const H = 'Host: localhost\r\n'
const AUD = '{"aud":"sts.amazonaws.com"}'
const CL = `Content-Length: ${AUD.length}\r\n`
const JSON_TYPE = 'Content-Type: application/json\r\n'
const TO_MINT = `POST /v1/tokens/oidc ${AUD}`
const OK = { expect: '200', to: TO_MINT }
const mint = (fields = '', line = 'POST /v1/tokens/oidc HTTP/1.1'): string => `${line}\r\n${H}${CL}${fields}\r\n${AUD}`
const body = (text: string, fields = ''): string =>
  `POST /v1/tokens/oidc HTTP/1.1\r\n${H}${fields}Content-Length: ${Buffer.byteLength(text, 'latin1')}\r\n\r\n${text}`
const get = (target: string, fields = ''): string => `GET ${target} HTTP/1.1\r\n${H}${fields}\r\n`
const verb = (method: string, target: string, fields = ''): string => `${method} ${target} HTTP/1.1\r\n${H}${fields}\r\n`
const chunked = (chunks: string, fields = ''): string =>
  `POST /v1/tokens/oidc HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n${fields}\r\n${chunks}`
const AUD16 = AUD.length.toString(16)
const READ = 'GET /v1/tokens/current'

// Clients of fly.md, section 1.
const compat = (name: string, comment: string, bytes: string, over: Partial<Says> = {}): void =>
  request(`compat_${name}`, { ...OK, id: 'compat', ...over }, comment, bytes)

compat('curl_form', "curl --data: the docs' own command, form content type", mint('User-Agent: curl/7.88.1\r\nAccept: */*\r\nContent-Type: application/x-www-form-urlencoded\r\n'), { id: 'compat C15' })
compat('curl_http10', 'curl --http1.0', mint('User-Agent: curl/7.88.1\r\n', 'POST /v1/tokens/oidc HTTP/1.0'), { after: 'close' })
compat('http10_no_host', 'HTTP/1.0 without Host', `POST /v1/tokens/oidc HTTP/1.0\r\n${CL}\r\n${AUD}`, { after: 'close' })
compat('http10_keep_alive', 'HTTP/1.0 that asks for keep-alive gets its answer and a close', mint('Connection: keep-alive\r\n', 'POST /v1/tokens/oidc HTTP/1.0'), { after: 'close' })
compat('curl_chunked', 'curl -H "Transfer-Encoding: chunked"', chunked(`${AUD16}\r\n${AUD}\r\n0\r\n\r\n`))
compat('node_chunked_pieces', 'node:http without a length, several writes', chunked(`8\r\n${AUD.slice(0, 8)}\r\n${(AUD.length - 8).toString(16).toUpperCase()}\r\n${AUD.slice(8)}\r\n0\r\n\r\n`, JSON_TYPE))
compat('chunk_size_zeros', 'leading zeros of a chunk size', chunked(`0000${AUD16}\r\n${AUD}\r\n000\r\n\r\n`))
compat('go_json', 'Go net/http', mint(`User-Agent: Go-http-client/1.1\r\n${JSON_TYPE}Accept-Encoding: gzip\r\n`))
compat('go_empty_object', '{} means the default audience', body('{}', JSON_TYPE), { to: 'POST /v1/tokens/oidc {}' })
compat('gcp_no_content_type', 'the GCP executable provider sends no content type', mint())
compat('empty_body', 'no body at all: default audience', verb('POST', '/v1/tokens/oidc', 'Content-Length: 0\r\n'), { to: 'POST /v1/tokens/oidc {}' })
compat('no_length', 'curl -X POST without data: no framing fields', verb('POST', '/v1/tokens/oidc'), { to: 'POST /v1/tokens/oidc {}' })
compat('rust_raw_close', 'nucleus-fly-oidc: raw socket, Connection: close', mint('Connection: close\r\n'), { after: 'close' })
compat('connection_list', 'close within a list of connection options', mint('Connection: TE, Close\r\nTE: trailers\r\n'), { after: 'close' })
compat('deno_absolute', 'Deno sends the absolute form', mint('', 'POST http://localhost/v1/tokens/oidc HTTP/1.1'), { id: 'compat B01' })
compat('absolute_foreign', 'the authority of an absolute form is ignored', mint('', 'POST http://evil.example:81/v1/tokens/oidc HTTP/1.1'), { id: 'compat B01' })
compat('absolute_https', 'and so is its scheme', mint('', 'POST https://localhost/v1/tokens/oidc HTTP/1.1'), { id: 'compat B01' })
compat('absolute_ipv6', 'absolute form with an IPv6 authority', mint('', 'POST http://[::1]:80/v1/tokens/oidc HTTP/1.1'), { id: 'compat B01' })
compat('node_fetch', 'undici fetch: its own headers', mint(`Connection: keep-alive\r\n${JSON_TYPE}accept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\naccept-encoding: br, gzip, deflate\r\n`), { id: 'compat A13' })
compat('python_aiohttp', 'aiohttp UnixConnector', mint('Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nUser-Agent: Python/3.11 aiohttp/3.9\r\nContent-Type: application/json\r\n'))
compat('principal_tags', 'Nix fly-oidc asks for AWS principal tags', body('{"aud":"sts.amazonaws.com","aws_principal_tags":true}'), { to: 'POST /v1/tokens/oidc {"aud":"sts.amazonaws.com","aws_principal_tags":true}' })
compat('gcp_audience', 'an audience that starts with //', body('{"aud":"//iam.googleapis.com/projects/1/x"}'), { to: 'POST /v1/tokens/oidc {"aud":"//iam.googleapis.com/projects/1/x"}' })
compat('json_spaces', 'white space in JSON is not ours to mind', body('\n{ "aud" : "sts.amazonaws.com" }\n'))
compat('unicode_audience', 'UTF-8 goes through as it is', Buffer.from(body('{"aud":"\xc3\xa9"}'), 'latin1').toString('latin1'), { to: 'POST /v1/tokens/oidc {"aud":"\u00e9"}' })
for (const [name, host] of Object.entries({ flaps: 'flaps', percent: '%2F.fly%2Fapi', ipv6: '[::1]:80', foreign: 'attacker.com', unix: 'unix', port_empty: 'localhost:', dotted: '.fly_api' })) {
  compat(`host_${name}`, 'any valid Host is ignored (http+unix clients invent them)', mint().replace('localhost', host), { id: 'compat A14' })
}
compat('expect_100', 'curl with a large body waits for 100 Continue', mint('Expect: 100-continue\r\n'), { id: 'compat D12' })
compat('expect_100_http10', 'HTTP/1.0 knows no 100', mint('Expect: 100-continue\r\n', 'POST /v1/tokens/oidc HTTP/1.0'), { after: 'close' })
compat('half_close', 'printf | nc -U -N: the sending side is shut first', mint(), { id: 'compat D18', more: 'yes', after: 'close' })
compat('half_close_two', 'both requests before a half-close are answered', mint() + get('/v1/tokens/current'), { expect: '200, 200', flyd: 2, to: [TO_MINT, READ], more: 'yes', after: 'close', id: 'compat D14 D18' })
compat('pipelined', 'three at once, answered in order', get('/v1/tokens/current') + mint() + get(OWN), { expect: '200, 200, 200', flyd: 3, to: [READ, TO_MINT, `GET ${OWN}`], id: 'compat D14' })
compat('suspend_curl', 'curl http://flaps, no body', verb('POST', `${OWN}/suspend`).replace('localhost', 'flaps'), { to: `POST ${OWN}/suspend` })
compat('suspend_hermes', 'hermes-agent: raw, Host: flaps, length 0, close', `POST ${OWN}/suspend HTTP/1.1\r\nHost: flaps\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`, { to: `POST ${OWN}/suspend`, after: 'close' })
compat('stop_json_nil', 'Go idle managers: a JSON content type and no body', verb('POST', `${OWN}/stop`, `${JSON_TYPE}Content-Length: 0\r\n`), { to: `POST ${OWN}/stop` })
compat('stop_body', 'stop with a signal', verb('POST', `${OWN}/stop`, 'Content-Length: 20\r\n') + '{ "signal":"SIGINT"}', { to: `POST ${OWN}/stop {"signal":"SIGINT"}` })
for (const word of ['start', 'restart', 'cordon', 'uncordon', 'signal', 'lease']) {
  compat(word, `this Machine's ${word}`, verb('POST', `${OWN}/${word}`), { to: `POST ${OWN}/${word}` })
}
compat('lease_release', 'the nonce of a held lease goes through', verb('DELETE', `${OWN}/lease`, 'fly-machine-lease-nonce: 7a3f\r\n'), { to: `DELETE ${OWN}/lease` })
compat('wait_query', 'wait with its query', get(`${OWN}/wait?state=started&timeout=60&instance_id=01H`), { to: `GET ${OWN}/wait?state=started&timeout=60&instance_id=01H` })
compat('machines_list', 'the list of machines', get('/v1/apps/weather-cat/machines?include_deleted=true'), { to: 'GET /v1/apps/weather-cat/machines?include_deleted=true' })
compat('metadata_get', 'metadata as a whole', get(`${OWN}/metadata`), { to: `GET ${OWN}/metadata` })
compat('metadata_get_key', 'one key', get(`${OWN}/metadata/role`), { to: `GET ${OWN}/metadata/role` })
compat('metadata_post', 'community.fly.io/t/13115: curl -d', verb('POST', `${OWN}/metadata/role`, 'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 15\r\n') + '{"value":"web"}', { to: `POST ${OWN}/metadata/role {"value":"web"}` })
compat('metadata_put', 'PUT of all metadata', verb('PUT', `${OWN}/metadata`, 'Content-Length: 23\r\n') + '{"metadata":{"k":null}}', { to: `PUT ${OWN}/metadata {"metadata":{"k":null}}` })
compat('metadata_patch', 'PATCH with a null', verb('PATCH', `${OWN}/metadata`, 'Content-Length: 28\r\n') + '{"metadata":{"a":"","b":"c"}', { to: undefined, expect: '400 BODY_MALFORMED', flyd: 0, after: 'open', id: 'E05' })
compat('metadata_patch_ok', 'PATCH of some metadata', verb('PATCH', `${OWN}/metadata`, 'Content-Length: 29\r\n') + '{"metadata":{"a":"","b":"c"}}', { to: `PATCH ${OWN}/metadata {"metadata":{"a":"","b":"c"}}` })
compat('metadata_delete', 'DELETE of one key', verb('DELETE', `${OWN}/metadata/role`), { to: `DELETE ${OWN}/metadata/role` })
compat('metadata_key_encoded', "a user's key, decoded once and encoded again", get(`${OWN}/metadata/a%20b%C3%A9%7e`), { to: `GET ${OWN}/metadata/a%20b%C3%A9~` })
compat('secrets_allowed', 'proxypilot, where a socket allows it', get('/v1/apps/weather-cat/secrets?show_secrets=1&min_version=3'), { to: 'GET /v1/apps/weather-cat/secrets?show_secrets=1&min_version=3', policy: 'allow' })
compat('secretkeys_allowed', 'alchemy, where a socket allows it', verb('POST', '/v1/apps/weather-cat/secretkeys/k1/sign', 'Content-Length: 17\r\nConnection: close\r\n') + '{"plaintext":"="}', { to: 'POST /v1/apps/weather-cat/secretkeys/k1/sign {"plaintext":"="}', policy: 'allow', after: 'close' })
compat('apps_probe', 'a sandbox guard expects its probe to be refused', get('/v1/apps'), { expect: '403 ROUTE_NOT_ALLOWED', flyd: 0, after: 'open', to: undefined })
compat('wrong_path_doc', 'the wrong usage of one document must be a clean 404', mint('', 'POST /.fly/api/v1/tokens/oidc HTTP/1.1'), { expect: '404 ROUTE_NOT_SERVED', flyd: 0, after: 'open', to: undefined })
compat('depot_get', "depot's first version used GET", get('/v1/tokens/oidc'), { expect: '405 METHOD_NOT_ALLOWED', flyd: 0, after: 'close', to: undefined })
compat('all_route', 'policy all: flyd decides', get('/v1/apps?org_slug=example'), { to: 'GET /v1/apps?org_slug=example', policy: 'all' })
compat('aud_listed', 'an audience on the list', mint(), { policy: 'aud' })
compat('token_socket', 'the app socket mints', mint(), { policy: 'token' })

// A. Callers.
for (const [name, field] of Object.entries({ origin: 'Origin: http://evil', referer: 'Referer: http://evil/', forwarded: 'Forwarded: for=1.2.3.4', via: 'Via: 1.1 x', xff: 'X-Forwarded-For: 1.2.3.4', xfh: 'x-forwarded-host: a', xfp: 'X-FORWARDED-PROTO: http' })) {
  request(`A13_${name}`, { expect: '403 FORWARDED_REQUEST', id: 'A13' }, 'an app was fooled into asking (SSRF)', mint(`${field}\r\n`))
}
request('A09_path', { expect: '403 ROUTE_NOT_ALLOWED', after: 'open', policy: 'token', id: 'A09' }, 'an app socket only mints', get('/v1/tokens/current'))
request('A09_aud', { expect: '403 AUDIENCE_NOT_ALLOWED', after: 'open', policy: 'aud', id: 'A09' }, 'an audience off the list', body('{"aud":"evil"}'))
request('A09_aud_default', { expect: '403 AUDIENCE_NOT_ALLOWED', after: 'open', policy: 'aud', id: 'A09' }, 'no audience is the default one, which is not on the list', body('{}'))
request('A09_aud_escape', { ...OK, policy: 'aud', id: 'A09 E04' }, 'an escaped spelling of a listed audience is that audience', body('{"a\\u0075d":"sts.amazon\\u0061ws.com"}'))
request('A09_aud_all_get', { expect: '405 METHOD_NOT_ALLOWED', after: 'close', policy: 'all', id: 'A09' }, 'no other method on the token path, though flyd decides all else', get('/v1/tokens/oidc?aud=evil'))
request('A09_aud_all_case', { expect: '404 ROUTE_NOT_SERVED', after: 'open', policy: 'all', id: 'A09 B09' }, 'no other case of the token path', body('{"aud":"evil"}').replace('oidc', 'OIDC'))

// B. Request line.
const refused = (name: string, expect: string, comment: string, bytes: string | Buffer, over: Partial<Says> = {}): void =>
  request(name, { expect, id: name.split('_')[0] ?? '', ...over }, comment, bytes)
const target = (name: string, path: string, expect = '400 TARGET_MALFORMED', over: Partial<Says> = {}): void => {
  refused(name, expect, `target ${path.length > 80 ? `${path.slice(0, 60)}…` : path}`.replace(/[^\x20-\x7e…]/g, '?'), mint('', `POST ${path} HTTP/1.1`), { after: 'open', ...over })
}
target('B01_absolute_denied', 'http://evil/v1/x', '404 ROUTE_NOT_SERVED')
target('B02_userinfo', 'http://u:p@localhost/v1/tokens/oidc')
target('B03_double_slash', '//evil/v1/tokens/oidc')
target('B03_absolute_double_slash', 'http://localhost//evil/v1/tokens/oidc')
target('B04_backslash', '/\\evil')
target('B04_backslash_dots', '/v1\\..\\admin')
target('B05_dotdot', '/v1/tokens/../apps')
target('B05_dotdot_into', '/v1/x/../tokens/oidc')
target('B05_dotdot_all', '/v1/tokens/../apps', '400 TARGET_MALFORMED', { policy: 'all' })
target('B05_dotdot_end', '/v1/tokens/oidc/..')
target('B06_encoded_dotdot', '/v1/tokens/%2e%2e/apps')
target('B06_encoded_dotdot_all', '/v1/tokens/%2e%2e/apps', '400 TARGET_MALFORMED', { policy: 'all' })
target('B06_mixed_dots', '/v1/tokens/.%2E/apps')
target('B06_encoded_slash', '/v1%2ftokens%2Foidc')
target('B07_double_encoded', '/v1/tokens/%252e%252e/apps')
target('B07_triple', '/v1/tokens/%25%32%65/apps')
target('B08_trailing_slash', '/v1/tokens/oidc/', '404 ROUTE_NOT_SERVED')
target('B08_trailing_slash_all', '/v1/tokens/oidc/', '404 ROUTE_NOT_SERVED', { policy: 'all' })
target('B08_inner_slashes', '/v1//tokens/oidc', '404 ROUTE_NOT_SERVED')
target('B08_dot', '/v1/./tokens/oidc', '404 ROUTE_NOT_SERVED')
target('B08_dot_all', '/v1/./apps', '404 ROUTE_NOT_SERVED', { policy: 'all' })
target('B08_matrix', '/v1/tokens/oidc;x=1', '404 ROUTE_NOT_SERVED')
target('B08_matrix_all', '/v1/tokens/oidc;x=1', '404 ROUTE_NOT_SERVED', { policy: 'all' })
target('B09_encoded_letter', '/v1/tokens/%6fidc', '404 ROUTE_NOT_SERVED')
target('B09_encoded_letter_all', '/v1/tokens/%6fidc', '404 ROUTE_NOT_SERVED', { policy: 'all' })
target('B09_case', '/V1/Tokens/OIDC', '404 ROUTE_NOT_SERVED')
target('B10_crlf', '/v1/tokens/oidc%0d%0aX-Y:1')
target('B10_nul', '/v1/tokens/oidc%00')
target('B10_bad_percent', '/v1/tokens/oidc%zz')
target('B10_utf8_overlong', '/v1/tokens/%c0%ae%c0%ae/apps')
target('B11_fragment', '/v1/tokens/oidc#f')
refused('B10_raw_nul', '400 REQUEST_MALFORMED', 'NUL in the target', mint('', 'POST /v1/tokens/oidc\0 HTTP/1.1'))
refused('B10_raw_latin1', '400 REQUEST_MALFORMED', 'a byte above ASCII in the target', mint('', 'POST /v1/tokens/oidc\xe9 HTTP/1.1'))
refused('B12_star_get', '400 TARGET_MALFORMED', 'GET *', get('*'), { after: 'open' })
refused('B12_star_options', '405 METHOD_NOT_ALLOWED', 'OPTIONS *', verb('OPTIONS', '*'))
refused('B12_relative', '400 TARGET_MALFORMED', 'a target with no slash', get('v1/tokens/current'), { after: 'open' })
for (const method of ['TRACE', 'TRACK', 'CONNECT', 'PURGE', 'PROPFIND', 'HEAD', 'OPTIONS']) {
  refused(`B13_${method}`, '405 METHOD_NOT_ALLOWED', method, verb(method, '/v1/tokens/current'))
}
refused('B13_connect_authority', '405 METHOD_NOT_ALLOWED', 'CONNECT host:port', verb('CONNECT', 'evil:443'))
refused('B13_lower_case', '400 REQUEST_MALFORMED', 'a method in lower case', verb('post', '/v1/tokens/oidc'))
refused('B13_method_junk', '400 REQUEST_MALFORMED', 'a method that is no word', verb('GE<T', '/v1/tokens/current'))
request('B14_override', { ...OK, id: 'B14' }, 'method override is dropped', mint('X-HTTP-Method-Override: DELETE\r\n'))
refused('B14_override_get', '405 METHOD_NOT_ALLOWED', 'and turns no GET into a POST', get('/v1/tokens/oidc', 'X-HTTP-Method-Override: POST\r\n'))
refused('B15_http09', '505 VERSION_NOT_SUPPORTED', 'HTTP/0.9', 'GET /v1/tokens/current\r\n\r\n')
refused('B15_http12', '505 VERSION_NOT_SUPPORTED', 'HTTP/1.2', get('/v1/tokens/current').replace('1.1', '1.2'))
refused('B16_h2_line', '505 VERSION_NOT_SUPPORTED', 'an HTTP/2.0 request line', get('/v1/tokens/current').replace('1.1', '2.0'))
refused('B16_h2_preface', '505 VERSION_NOT_SUPPORTED', 'the HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
refused('B16_tls', '400 REQUEST_MALFORMED', 'a TLS hello', Buffer.concat([Buffer.from([22, 3, 1, 0, 90]), Buffer.alloc(90, 7)]))
refused('B18_query_token', '400 QUERY_NOT_SERVED', 'a query on the token path', mint('', 'POST /v1/tokens/oidc?aud=x&show_secrets=1 HTTP/1.1'), { after: 'open' })
refused('B18_query_empty', '400 QUERY_NOT_SERVED', 'even an empty one', mint('', 'POST /v1/tokens/oidc? HTTP/1.1'), { after: 'open' })
refused('B18_query_repeated', '400 QUERY_NOT_SERVED', 'a listed name twice', get(`${OWN}/wait?state=a&state=b`), { after: 'open' })
refused('B18_query_unlisted', '400 QUERY_NOT_SERVED', 'a name off the list', get(`${OWN}/wait?x=a`), { after: 'open' })
refused('B18_query_escape', '400 QUERY_NOT_SERVED', 'a value that needs an escape', get(`${OWN}/wait?state=%26a`), { after: 'open' })
refused('B18_query_on_key', '400 QUERY_NOT_SERVED', 'a query on a keyed route', get(`${OWN}/metadata/a?x=1`), { after: 'open' })
refused('B19_secrets', '403 ROUTE_NOT_ALLOWED', 'secrets only where a socket says so', get('/v1/apps/weather-cat/secrets?show_secrets=1'), { after: 'open' })
refused('B19_exec', '403 ROUTE_NOT_ALLOWED', 'exec neither', verb('POST', `${OWN}/exec`), { after: 'open' })
refused('B21_target_9k', '414 REQUEST_LINE_TOO_LONG', 'a target of 9 KB', get(`/v1/${'a'.repeat(9000)}`))
refused('B21_target_20k', '414 REQUEST_LINE_TOO_LONG', 'a target of 20 KB', get(`/v1/${'a'.repeat(20_000)}`))
refused('B21_no_end', '414 REQUEST_LINE_TOO_LONG', 'a line that never ends', `GET /${'a'.repeat(9000)}`)
refused('B23_other_app', '403 NOT_THIS_MACHINE', "another app's list", get('/v1/apps/other/machines'), { after: 'open' })
refused('B23_other_machine', '403 NOT_THIS_MACHINE', "another Machine's suspend", verb('POST', '/v1/apps/weather-cat/machines/e1/suspend'), { after: 'open' })
refused('B23_prefix', '403 NOT_THIS_MACHINE', 'our id and more', get(`${OWN}9`), { after: 'open' })
refused('B23_case', '403 NOT_THIS_MACHINE', 'our id in upper case', get(OWN.toUpperCase().replace('/V1/APPS/', '/v1/apps/').replace('/MACHINES/', '/machines/')), { after: 'open' })
refused('B23_key_dots', '400 TARGET_MALFORMED', 'a key that climbs', get(`${OWN}/metadata/..`), { after: 'open' })
refused('B23_key_encoded_dots', '400 TARGET_MALFORMED', 'a key that climbs once decoded', get(`${OWN}/metadata/%2e%2e`), { after: 'open' })
refused('B23_key_slash', '400 TARGET_MALFORMED', 'a key with an encoded slash', get(`${OWN}/metadata/a%2fb`), { after: 'open' })
refused('B23_key_percent', '400 TARGET_MALFORMED', 'a key with an encoded percent', get(`${OWN}/metadata/a%252fb`), { after: 'open' })
refused('B23_key_not_utf8', '400 TARGET_MALFORMED', 'a key that is not UTF-8', get(`${OWN}/metadata/%ff`), { after: 'open' })
refused('B23_key_empty', '400 TARGET_MALFORMED', 'an empty key', get(`${OWN}/metadata/`), { after: 'open' })
refused('B_tab_separator', '400 REQUEST_MALFORMED', 'a tab between words', 'GET\t/v1/tokens/current HTTP/1.1\r\nHost: a\r\n\r\n', { id: 'B15' })
refused('B_two_blanks', '400 REQUEST_MALFORMED', 'two blanks between words', 'GET  /v1/tokens/current HTTP/1.1\r\nHost: a\r\n\r\n', { id: 'B15' })
refused('B_blank_end', '400 REQUEST_MALFORMED', 'a blank behind the version', 'GET /v1/tokens/current HTTP/1.1 \r\nHost: a\r\n\r\n', { id: 'B15' })
refused('B_empty_line_first', '400 REQUEST_MALFORMED', 'an empty line first', `\r\n${get('/v1/tokens/current')}`, { id: 'B15' })
refused('B_line_only', 'none', 'a line and half-close: nothing was asked', 'GET /v1/tokens/current HTTP/1.1\r\n', { more: 'yes', id: 'D18' })

// C. Header fields.
const dropped = (name: string, comment: string, fields: string): void =>
  request(name, { ...OK, id: name.split('_')[0] ?? '' }, comment, mint(fields))
dropped('C01_authorization', "the guest's own authorization", 'Authorization: FlyV1 x\r\nauthorization: Bearer y\r\n')
dropped('C03_connection_names_ours', 'Connection names our header', 'Connection: Authorization\r\nConnection: authorization, Host\r\n')
request('C04_connection_close_list', { ...OK, after: 'close', id: 'C04' }, 'Connection names framing', mint('Connection: close, Host, Content-Length\r\n'))
dropped('C05_proxy_fields', 'fields for proxies', 'Proxy-Authorization: x\r\nProxy-Connection: close\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\n')
for (const [name, host] of Object.entries({ empty: '', path: 'a/../b?c', blank: 'a b', userinfo: 'u@a', control: 'a\x01', bad_port: 'a:8x', quote: '"a"' })) {
  refused(`C07_host_${name}`, '400 REQUEST_MALFORMED', 'a Host that is none', mint().replace('localhost', host))
}
refused('C07_no_host', '400 REQUEST_MALFORMED', 'HTTP/1.1 without Host', `POST /v1/tokens/oidc HTTP/1.1\r\n${CL}\r\n${AUD}`)
refused('C07_two_hosts', '400 REQUEST_MALFORMED', 'two Hosts', mint('Host: localhost\r\n'))
dropped('C08_aliases', 'underscore aliases', 'Fly_Macaroon: x\r\nauthorization_: y\r\nAuthoriza_tion: z\r\n')
dropped('C09_fly', 'spoofed Fly fields', 'Fly-Src: x\r\nFly-Client-IP: 1.2.3.4\r\nFly-Machine-Id: m\r\nFly-Machine-Lease-Nonce: a b\r\n')
dropped('C10_proto', 'names of Object.prototype', '__proto__: x\r\nconstructor: y\r\ntoString: z\r\nhasOwnProperty: w\r\n')
refused('C11_2000_fields', '431 REQUEST_HEAD_TOO_LARGE', 'a length hidden behind 2000 fields', mint('a: b\r\n'.repeat(2000)))
refused('C11_65_fields', '431 REQUEST_HEAD_TOO_LARGE', 'one field too many', `GET /v1/tokens/current HTTP/1.1\r\n${H}${'a: b\r\n'.repeat(64)}\r\n`)
request('C11_64_fields', { expect: '200', to: READ, id: 'C11' }, 'the last that fits', `GET /v1/tokens/current HTTP/1.1\r\n${H}${'a: b\r\n'.repeat(63)}\r\n`)
refused('C11_20k_value', '431 REQUEST_HEAD_TOO_LARGE', 'a value of 20 KB', mint(`X: ${'a'.repeat(20_000)}\r\n`))
request('C11_head_16k', { expect: '200', to: READ, id: 'C11' }, 'a head of exactly 16 KiB', get('/v1/tokens/current', `X: ${'a'.repeat(16_384 - get('/v1/tokens/current').length - 1)}\r\n`))
for (const [name, field] of Object.entries({
  fold: 'X: a\r\n b\r\n',
  fold_tab: 'X: a\r\n\tb\r\n',
  fold_length: 'X: a\r\n Content-Length: 5\r\n',
  space_colon: 'X : a\r\n',
  space_length: 'Content-Length : 5\r\n',
  tab_colon: 'X\t: a\r\n',
  space_first: ' X: a\r\n',
  nul: 'X: a\0b\r\n',
  cr: 'X: a\rb\r\n',
  lf: 'X: a\nb\r\n',
  lf_field: 'X: a\nTransfer-Encoding: chunked\r\n',
  cr_field: 'X: a\rTransfer-Encoding: chunked\r\n',
  no_colon: 'X\r\n',
  no_name: ': a\r\n',
  name_latin1: 'X\xe9: a\r\n',
  name_paren: 'X(): a\r\n',
  del: 'X: a\x7fb\r\n',
})) {
  refused(`C12_${name}`, '400 REQUEST_MALFORMED', 'a field line that is not canonical', mint(field))
}
refused('C12_lf_only', '400 REQUEST_MALFORMED', 'bare line feeds throughout', 'GET /v1/tokens/current HTTP/1.1\nHost: a\n\n')
refused('C12_lf_end', '400 REQUEST_MALFORMED', 'a head that ends in LF LF', 'GET /v1/tokens/current HTTP/1.1\r\nHost: a\n\n')
refused('C12_first_fold', '400 REQUEST_MALFORMED', 'a fold before the first field', 'GET /v1/tokens/current HTTP/1.1\r\n Host: a\r\n\r\n')
dropped('C13_latin1', 'latin-1 in a value goes nowhere', 'X-Name: J\xfcrgen\r\n')
dropped('C14_conditional', 'fields that would change the answer', 'Cookie: a=b\r\nRange: bytes=0-10\r\nIf-None-Match: "x"\r\nIf-Range: x\r\nAccept-Encoding: gzip, br\r\n')
dropped('C16_content_type_utf7', 'a content type that lies', 'Content-Type: application/json;charset=utf-7\r\n')
dropped('C16_content_type_odd', 'a content type that is odd', 'Content-Type: application/json ;\r\nContent-Encoding: gzip\r\n')
dropped('C17_max_forwards', 'Max-Forwards', 'Max-Forwards: 0\r\n')

// D. Framing.
const SMUGGLED = get(`${OWN}/lease`)
refused('D01_cl_te', '400 REQUEST_MALFORMED', 'length, then chunked', mint('Transfer-Encoding: chunked\r\n') + SMUGGLED)
refused('D01_te_cl', '400 REQUEST_MALFORMED', 'chunked, then length', chunked(`0\r\n\r\n${SMUGGLED}`, 'Content-Length: 5\r\n'))
refused('D01_te_cl_0', '400 REQUEST_MALFORMED', 'chunked and length 0', chunked('0\r\n\r\n', 'Content-Length: 0\r\n'))
refused('D01_te_http10', '400 REQUEST_MALFORMED', 'chunked in HTTP/1.0', chunked(`${AUD16}\r\n${AUD}\r\n0\r\n\r\n`).replace('1.1', '1.0'))
refused('D02_same', '400 REQUEST_MALFORMED', 'the same length twice', mint(CL))
refused('D02_different', '400 REQUEST_MALFORMED', 'two lengths', mint('Content-Length: 5\r\n'))
for (const [name, value] of Object.entries({ plus: '+5', minus: '-5', hex: '0x5', list: '5, 5', float: '5.0', empty: '', blank: '5 5', exp: '5e0', huge: '99999999999999999999999', octal_plus: ' +05' })) {
  refused(`D03_${name}`, '400 REQUEST_MALFORMED', `Content-Length: ${value}`, `POST /v1/tokens/oidc HTTP/1.1\r\n${H}Content-Length: ${value}\r\n\r\n${AUD}`)
}
request('D03_zeros', { ...OK, id: 'D03' }, 'leading zeros are the same number everywhere', mint().replace(CL, `Content-Length: 0${AUD.length}\r\n`))
request('D03_blanks', { ...OK, id: 'D03' }, 'blanks around a length are no part of it', mint().replace(CL, `Content-Length:  ${AUD.length}  \r\n`))
refused('D03_tab', '400 REQUEST_MALFORMED', 'a tab is', mint().replace(CL, `Content-Length: ${AUD.length}\t\r\n`))
for (const [name, value] of Object.entries({ chunked_identity: 'chunked, identity', chunked_twice: 'chunked,chunked', xchunked: 'xchunked', identity: 'identity', gzip: 'gzip, chunked', quoted: '"chunked"', tab: 'chunked\x0b', empty: '', param: 'chunked;q=1' })) {
  refused(`D07_${name}`, '400 REQUEST_MALFORMED', `Transfer-Encoding: ${value}`.replace('\x0b', '\\v'), chunked(`${AUD16}\r\n${AUD}\r\n0\r\n\r\n`).replace(': chunked', `: ${value}`))
}
refused('D07_tab_end', '400 REQUEST_MALFORMED', 'a tab behind chunked', chunked('0\r\n\r\n').replace('chunked', 'chunked\t'))
refused('D07_two_lines', '400 REQUEST_MALFORMED', 'two Transfer-Encodings', chunked('0\r\n\r\n', 'Transfer-Encoding: chunked\r\n'))
request('D07_case', { ...OK, id: 'D07' }, 'Chunked in any case', chunked(`${AUD16}\r\n${AUD}\r\n0\r\n\r\n`).replace(': chunked', ': CHUNKED'))
request('D08_extension', { ...OK, id: 'D08' }, 'a small chunk extension is dropped', chunked(`${AUD16};a=b\r\n${AUD}\r\n0;c\r\n\r\n`))
refused('D08_extension_20k', '400 REQUEST_MALFORMED', 'an extension of 20 KB', chunked(`${AUD16};a=${'b'.repeat(20_000)}\r\n${AUD}\r\n0\r\n\r\n`))
for (const [name, extension] of Object.entries({ comma: ';,=a', blank_in: ';a b', open_quote: ';a="b', empty: ';' })) {
  refused(`D08_extension_${name}`, '400 REQUEST_MALFORMED', `extension ${extension}`, chunked(`${AUD16}${extension}\r\n${AUD}\r\n0\r\n\r\n`))
}
refused('D08_extension_lf', '400 REQUEST_MALFORMED', 'a bare LF in an extension', chunked(`${AUD16};a\nb\r\n${AUD}\r\n0\r\n\r\n`))
refused('D08_extension_cr', '400 REQUEST_MALFORMED', 'a bare CR in an extension', chunked(`${AUD16};a\rb\r\n${AUD}\r\n0\r\n\r\n`))
refused('D08_extension_blank', '400 REQUEST_MALFORMED', 'a blank before an extension', chunked(`${AUD16} ;a=b\r\n${AUD}\r\n0\r\n\r\n`))
for (const [name, size] of Object.entries({ plus: '+5', minus: '-5', prefix: '0x5', blank: ' 5', blank_end: '5 ', empty: '', letter: 'g', huge: 'ffffffffffffffff', underscore: '1_0' })) {
  refused(`D08_size_${name}`, '400 REQUEST_MALFORMED', `chunk size ${JSON.stringify(size)}`, chunked(`${size}\r\n${AUD}\r\n0\r\n\r\n`))
}
refused('D08_lf_size', '400 REQUEST_MALFORMED', 'a chunk size that ends in LF', chunked(`${AUD16}\n${AUD}\r\n0\r\n\r\n`))
refused('D08_lf_data', '400 REQUEST_MALFORMED', 'chunk data that end in LF', chunked(`${AUD16}\r\n${AUD}\n0\r\n\r\n`))
refused('D08_long_data', '400 REQUEST_MALFORMED', 'more data than the chunk said', chunked(`${AUD16}\r\n${AUD}XX\r\n0\r\n\r\n`))
refused('D09_trailer_authorization', '400 REQUEST_MALFORMED', 'a trailer', chunked(`${AUD16}\r\n${AUD}\r\n0\r\nAuthorization: x\r\n\r\n`))
refused('D10_trailer_flood', '400 REQUEST_MALFORMED', '1000 trailers', chunked(`${AUD16}\r\n${AUD}\r\n0\r\n${'X: y\r\n'.repeat(1000)}\r\n`))
refused('D11_get_body', '400 REQUEST_MALFORMED', 'GET with a body', get('/v1/tokens/current', 'Content-Length: 5\r\n') + 'hello')
refused('D11_get_chunked', '400 REQUEST_MALFORMED', 'GET with chunks', get('/v1/tokens/current', 'Transfer-Encoding: chunked\r\n') + '0\r\n\r\n')
request('D11_get_length_0', { expect: '200', to: READ, id: 'D11' }, 'GET with length 0 has no body', get('/v1/tokens/current', 'Content-Length: 0\r\n'))
refused('D12_expect_denied', '404 ROUTE_NOT_SERVED', 'a denied path is not asked for its body', `POST /v1/nothing HTTP/1.1\r\n${H}Expect: 100-continue\r\nContent-Length: 10\r\n\r\n`)
refused('D13_expect_other', '417 EXPECTATION_FAILED', 'another expectation', mint('Expect: 200-ok\r\n'))
request('D14_allowed_denied', { expect: '200, 404 ROUTE_NOT_SERVED, 200', flyd: 2, to: [READ, TO_MINT], id: 'D14' }, 'each is judged alone', get('/v1/tokens/current') + get('/v1/no') + mint())
request('D14_denied_allowed', { expect: '403 NOT_THIS_MACHINE, 200', flyd: 1, to: [TO_MINT], after: 'open', id: 'D14' }, 'a refusal by policy does not end the connection', get('/v1/apps/x') + mint())
request('D14_allowed_malformed', { expect: '200, 400 REQUEST_MALFORMED', flyd: 1, to: [READ], after: 'close', id: 'D14' }, 'but nothing behind a malformed one is believed', get('/v1/tokens/current') + get('/v1/x', 'X : y\r\n') + mint())
refused('D15_websocket', '400 REQUEST_MALFORMED', 'Upgrade: websocket', get('/v1/tokens/current', 'Connection: Upgrade\r\nUpgrade: websocket\r\n') + SMUGGLED)
refused('D15_h2c', '400 REQUEST_MALFORMED', 'Upgrade: h2c with a body', mint('Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n'))
refused('D16_length', '413 REQUEST_BODY_TOO_LARGE', 'a length above 64 KiB is refused before the body', `POST ${OWN}/metadata/k HTTP/1.1\r\n${H}Content-Length: 65537\r\n\r\n`)
refused('D16_token_9k', '413 REQUEST_BODY_TOO_LARGE', 'a token body above 8 KiB', body(`{"aud":"${'a'.repeat(9000)}"}`), { after: 'open' })
refused('D16_chunk', '413 REQUEST_BODY_TOO_LARGE', 'a chunk above 64 KiB is refused by its size line', chunked('10001\r\n'))
refused('D16_chunks', '413 REQUEST_BODY_TOO_LARGE', 'chunks that add up', chunked(`8000\r\n${'a'.repeat(0x8000)}\r\n8001\r\n`))
request('D16_64k', { expect: '200', flyd: 1, id: 'D16', to: `POST ${OWN}/metadata/k {"v":"${'a'.repeat(65_528)}"}` }, 'the largest body that passes', `POST ${OWN}/metadata/k HTTP/1.1\r\n${H}Content-Length: 65536\r\n\r\n{"v":"${'a'.repeat(65_528)}"}`)
request('D17_length_0_body', { expect: '200, 400 REQUEST_MALFORMED', flyd: 1, to: 'POST /v1/tokens/oidc {}', after: 'close', id: 'D17' }, 'a body that length 0 denies is no request', `POST /v1/tokens/oidc HTTP/1.1\r\n${H}Content-Length: 0\r\n\r\n${AUD}`)
request('D17_smuggle', { expect: '200, 200', flyd: 2, to: ['POST /v1/tokens/oidc {}', `GET ${OWN}/lease`], id: 'D17' }, 'a request there is a request like any other', `POST /v1/tokens/oidc HTTP/1.1\r\n${H}Content-Length: 0\r\n\r\n${SMUGGLED}`)
refused('D18_short_body', 'none', 'half-close inside the body', mint().slice(0, -5), { more: 'yes' })
refused('D18_short_chunk', 'none', 'half-close inside a chunk', chunked(`${AUD16}\r\n{`), { more: 'yes' })

// E. What goes to flyd.
const malformed = (name: string, comment: string, json: string): void =>
  request(name, { expect: '400 BODY_MALFORMED', after: 'open', id: name.split('_')[0] ?? '' }, comment, body(json))
request('E03_crlf_aud', { expect: '200', to: String.raw`POST /v1/tokens/oidc {"aud":"a\r\nAuthorization: x"}`, id: 'E03' }, 'CR LF in an audience stays an escape', body(String.raw`{"aud":"a\r\nAuthorization: x"}`))
malformed('E04_unknown_key', 'an unknown key', '{"aud":"a","x":1}')
malformed('E04_proto', '__proto__', '{"__proto__":{"aud":"a"}}')
malformed('E04_array_aud', 'an array of audiences', '{"aud":["a"]}')
malformed('E04_number_aud', 'a number', '{"aud":1}')
malformed('E04_null_aud', 'null', '{"aud":null}')
malformed('E04_tags_string', 'tags that are no boolean', '{"aws_principal_tags":"true"}')
malformed('E04_array', 'an array', '[]')
malformed('E04_string', 'a string', '"aud"')
malformed('E04_null', 'null alone', 'null')
malformed('E04_nested', 'nesting', `{"aud":${'['.repeat(4000)}${']'.repeat(4000)}}`)
malformed('E04_bom', 'a byte order mark', '\xef\xbb\xbf{}')
malformed('E04_not_utf8', 'not UTF-8', '{"aud":"\xff"}')
malformed('E04_surrogate', 'a lone surrogate', String.raw`{"aud":"\ud800"}`)
malformed('E04_long_aud', 'an audience of 513 characters', `{"aud":"${'a'.repeat(513)}"}`)
malformed('E04_form', 'a form', 'aud=sts.amazonaws.com')
malformed('E04_two_values', 'two values', '{}{}')
malformed('E04_nul', 'a NUL behind it', '{}\0')
request('E04_duplicate', { expect: '200', to: 'POST /v1/tokens/oidc {"aud":"b"}', id: 'E04' }, 'of duplicate keys flyd sees one', body('{"aud":"a","aud":"b"}'))
request('E04_duplicate_aud', { expect: '403 AUDIENCE_NOT_ALLOWED', after: 'open', policy: 'aud', id: 'E04 A09' }, 'and it is the judged one', body('{"aud":"sts.amazonaws.com","aud":"b"}'))
malformed('E05_trailing_comma', "the docs' trailing comma", '{"aud":"sts.amazonaws.com",}')
request('E05_other_body', { expect: '400 BODY_MALFORMED', after: 'open', id: 'E04' }, 'other routes take JSON objects only', `POST ${OWN}/metadata/k HTTP/1.1\r\n${H}Content-Length: 6\r\n\r\n[1, 2]`)

// F, G. What flyd says.
interface Hears {
  /** `200`, `502 CODE`, or `502 CODE | cut` where bytes may be out before the fault shows. */
  expect: string
  ask?: 'token' | 'read'
  /** May the connection to flyd be used again? */
  flyd?: 'reused' | 'destroyed'
  /** What the guest reads, where it matters. */
  sees?: string
  /** Names of fields that may reach the guest. */
  id: string
  needs?: string
  more?: string
  /** Times that flyd is asked: a reused connection that dies without a byte is tried once more. */
  asks?: string
}
function response(name: string, hears: Hears, comment: string, bytes: string | Buffer): void {
  const ok = /^2[0-9]{2}$/.test(hears.expect)
  file(
    `response/${name}.http`,
    {
      expect: hears.expect,
      ask: hears.ask ?? 'token',
      'flyd-connection': hears.flyd ?? (ok ? 'reused' : 'destroyed'),
      'flyd-closes': hears.more,
      asks: hears.asks,
      sees: hears.sees,
      needs: hears.needs,
      id: hears.id,
      comment,
    },
    bytes,
  )
}
const TEXT = 'content-type: text/plain; charset=utf-8\r\n'
const answer = (text: string, fields = '', line = 'HTTP/1.1 200 OK'): string =>
  `${line}\r\n${TEXT}${fields}content-length: ${Buffer.byteLength(text, 'latin1')}\r\n\r\n${text}`
const token = (fields = '', line = 'HTTP/1.1 200 OK'): string => answer(JWT, fields, line)
const chunks = (parts: string, fields = ''): string => `HTTP/1.1 200 OK\r\n${TEXT}transfer-encoding: chunked\r\n${fields}\r\n${parts}`
const chunk = (text: string, extension = ''): string => `${text.length.toString(16)}${extension}\r\n${text}\r\n`
const good = { expect: '200', sees: JWT }

response('compat_length', { ...good, id: 'compat' }, 'what flyd says', token('fly-request-id: 01JNRQ9VVKJ7HZFMJWJB3M3RYN-yyz\r\n'))
response('compat_chunked', { ...good, id: 'compat' }, 'the real API chunks', chunks(chunk(JWT) + '0\r\n\r\n'))
response('compat_chunked_pieces', { ...good, id: 'compat' }, 'in several chunks', chunks(chunk(JWT.slice(0, 9)) + chunk(JWT.slice(9)) + '0\r\n\r\n'))
response('compat_newline', { expect: '200', sees: `${JWT}\\n`, id: 'G20' }, 'a trailing newline passes unchanged', answer(`${JWT}\n`))
response('compat_error', { expect: '401', flyd: 'reused', id: 'compat' }, 'an error of flyd passes', answer('{"error":"Authenticate: token validation error"}', '', 'HTTP/1.1 401 Unauthorized'))
response('compat_429', { expect: '429', flyd: 'reused', id: 'J10' }, 'a rate limit passes, with Retry-After', answer('{"error":"slow"}', 'retry-after: 1\r\n', 'HTTP/1.1 429 Too Many Requests'))
response('compat_no_reason', { ...good, id: 'compat' }, 'an empty reason', token('', 'HTTP/1.1 200 '))
response('compat_no_reason_no_blank', { ...good, id: 'compat' }, 'a status line without the last blank', token('', 'HTTP/1.1 200'))
response('compat_close', { ...good, flyd: 'destroyed', id: 'compat' }, 'Connection: close', token('connection: close\r\n'))
response('compat_http10', { ...good, flyd: 'destroyed', id: 'compat' }, 'HTTP/1.0 with a length', token('', 'HTTP/1.0 200 OK'))
response('compat_204', { expect: '204', ask: 'read', id: 'compat' }, '204 without a length', 'HTTP/1.1 204 No Content\r\n\r\n')
response('compat_100', { ...good, id: 'F06' }, 'an interim answer is dropped', `HTTP/1.1 100 Continue\r\n\r\n${token()}`)
response('compat_empty_read', { expect: '200', ask: 'read', sees: '', id: 'compat' }, 'an empty body', answer(''))
response('compat_json', { expect: '200', ask: 'read', sees: '{"a":1}', id: 'compat' }, 'JSON', answer('{"a":1}'))
response('compat_chunked_read', { expect: '200', ask: 'read', sees: '{"a":1}{"b":2}', id: 'compat' }, 'chunks on a route that streams', chunks(`${chunk('{"a":1}')}${chunk('{"b":2}')}0\r\n\r\n`))
response('compat_500', { expect: '500', flyd: 'reused', id: 'compat' }, 'a 500 passes', answer('{"error":"x"}', '', 'HTTP/1.1 500 Internal Server Error'))

const C = CREDENTIAL
const SECRET = C.slice(-43) // the signature, whole
const hidden = (name: string, id: string, comment: string, bytes: string | Buffer, over: Partial<Hears> = {}): void =>
  response(name, { expect: '200', id, ...over }, comment, bytes)
hidden('F01_value', 'F01', 'the credential in an unlisted field', token(`X-Debug: ${C}\r\nAuthorization: ${C}\r\n`), { sees: JWT })
hidden('F01_listed_value', 'F01 F17', 'in a listed field, in its grammar', token(`fly-request-id: ${SECRET.replaceAll('_', '-')}\r\n`), { needs: 'strip' })
hidden('F01_request_id_hex', 'F17', 'in a request id, as hex', token(`fly-request-id: ${Buffer.from(SECRET).toString('hex').slice(0, 64)}\r\n`), { needs: 'strip' })
hidden('F01_content_type', 'F01', 'in a content type', token().replace('text/plain', `text/${SECRET}`), { needs: 'strip' })
hidden('F01_charset', 'F01', 'in a charset', token().replace('utf-8', SECRET.slice(0, 16).replaceAll('_', '-')), { needs: 'strip' })
hidden('F01_name', 'F01', 'in the name of a field', token(`${SECRET}: x\r\n`), { sees: JWT })
hidden('F03_reason', 'F03', 'in the reason phrase', token('', `HTTP/1.1 200 ${C}`), { sees: JWT })
hidden('F04_reason_control', 'F04', 'control bytes in the reason phrase', token('', 'HTTP/1.1 200 \x01\x1b[2J\x07'), { sees: JWT })
hidden('F06_interim_fields', 'F06', 'in an interim answer', `HTTP/1.1 103 ${SECRET}\r\nLink: ${C}\r\n\r\n${token()}`, { sees: JWT })
hidden('F06_102', 'F06', 'processing, several times', `${'HTTP/1.1 102 Processing\r\n\r\n'.repeat(8)}${token()}`, { sees: JWT })
hidden('F08_trailer', 'F08', 'in a trailer', chunks(`${chunk(JWT)}0\r\nX-T: ${C}\r\n\r\n`), { sees: JWT })
hidden('F08_trailer_read', 'F08', 'in a trailer of a streamed answer', chunks(`${chunk('{}')}0\r\nX-T: ${C}\r\n\r\n`), { sees: '{}', ask: 'read' })
hidden('F09_extension', 'F09', 'in a chunk extension', chunks(`${chunk(JWT, `;x=${SECRET}`)}0;y=${SECRET}\r\n\r\n`), { sees: JWT })
hidden('F12_cookies', 'F12', 'two cookies', token(`set-cookie: a=${C}\r\nset-cookie: b=${C}\r\n`), { sees: JWT })
hidden('F19_etag', 'F19', 'fields with free text', token(`etag: "${SECRET}"\r\nserver-timing: a;desc=${SECRET}\r\nlink: <${SECRET}>\r\nalt-svc: h3="${SECRET}"\r\nwww-authenticate: FlyV1 realm="${SECRET}"\r\nserver: ${SECRET}\r\nvia: ${SECRET}\r\n`), { sees: JWT })
hidden('F01_repeated', 'F01', 'a listed field twice: the first alone passes', token('retry-after: 1\r\nretry-after: 2\r\n'), { sees: JWT })
hidden('F01_date', 'F01', 'a date of another shape', token(`date: ${C}\r\n`), { sees: JWT })

const bad = (name: string, code: string, comment: string, bytes: string | Buffer, over: Partial<Hears> = {}): void =>
  response(name, { expect: `502 ${code}`, id: name.split('_')[0] ?? '', ...over }, comment, bytes)
bad('F07_101', 'FLYD_UPGRADED', 'an upgrade that nobody asked for', `HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n${C}`)
bad('F07_101_after_100', 'FLYD_UPGRADED', 'an upgrade behind an interim answer', `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 ${C}\r\n\r\n${C}`)
for (const status of [300, 301, 302, 303, 304, 307, 308, 399]) {
  bad(`F10_${status}`, 'FLYD_REDIRECTED', `${status} with the credential`, answer(C, `location: https://evil/?t=${C}\r\n`, `HTTP/1.1 ${status} ${C}`))
}
bad('F06_interim_http10', 'FLYD_MALFORMED', 'an interim answer of HTTP/1.0, behind which llhttp reads no more', `HTTP/1.0 100 Continue\r\n\r\n${token()}`)
bad('F06_flood', 'FLYD_TOO_LARGE', 'nine interim answers', 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(9) + token())
bad('F06_flood_1000', 'FLYD_TOO_LARGE', 'a thousand of them', `HTTP/1.1 103 Early Hints\r\nLink: ${C}\r\n\r\n`.repeat(1000) + token())
bad('F13_101_fields', 'FLYD_TOO_LARGE', 'more than 100 fields', token('a: b\r\n'.repeat(99)))
hidden('F13_100_fields', 'F13', 'exactly 100 fields', token('a: b\r\n'.repeat(98)), { sees: JWT })
bad('F13_1500_fields', 'FLYD_TOO_LARGE', '1500 fields', token('a: b\r\n'.repeat(1500)))
bad('F14_70k', 'FLYD_TOO_LARGE', 'a head of 70 KB', token(`X: ${C.repeat(300)}\r\n`))
bad('F14_no_end', 'FLYD_TOO_LARGE', 'a head that never ends', `HTTP/1.1 200 OK\r\n${'a: b\r\n'.repeat(13_000)}`)
bad('F15_cl_te', 'FLYD_MALFORMED', 'length and chunked', chunks(chunk(JWT) + '0\r\n\r\n', 'content-length: 5\r\n'))
bad('F15_te_cl', 'FLYD_MALFORMED', 'chunked behind a length', token('transfer-encoding: chunked\r\n'))
bad('F15_two_lengths', 'FLYD_MALFORMED', 'two lengths', token('content-length: 5\r\n'))
bad('F15_same_lengths', 'FLYD_MALFORMED', 'the same length twice', token(`content-length: ${JWT.length}\r\n`))
for (const [name, value] of Object.entries({ list: '5, 5', plus: '+5', minus: '-5', hex: '0x5', empty: '', huge: '9'.repeat(20), float: '1.5' })) {
  bad(`F15_length_${name}`, 'FLYD_MALFORMED', `content-length: ${value}`, `HTTP/1.1 200 OK\r\n${TEXT}content-length: ${value}\r\n\r\n${C}`)
}
for (const [name, value] of Object.entries({ gzip: 'gzip, chunked', twice: 'chunked, chunked', identity: 'identity', x: 'xchunked' })) {
  bad(`F15_te_${name}`, 'FLYD_MALFORMED', `transfer-encoding: ${value}`, chunks(`${chunk(JWT)}0\r\n\r\n`).replace(': chunked', `: ${value}`))
}
bad('F15_te_tab', 'FLYD_MALFORMED', 'a tab behind chunked: llhttp then reads to the end (found by fuzzing)', chunks(`${chunk(JWT)}0\r\n\r\n`).replace('chunked', 'chunked\t'))
bad('F15_te_http10', 'FLYD_MALFORMED', 'chunked in HTTP/1.0', chunks(`${chunk(JWT)}0\r\n\r\n`).replace('1.1', '1.0'))
bad('F15_fold', 'FLYD_MALFORMED', 'a fold', token(`X: a\r\n ${C}\r\n`))
bad('F15_cr', 'FLYD_MALFORMED', 'a bare CR', token(`X: a\r${SECRET}\r\n`))
bad('F15_lf', 'FLYD_MALFORMED', 'a bare LF', token(`X: a\nY: ${SECRET}\r\n`))
bad('F15_nul', 'FLYD_MALFORMED', 'a NUL', token('X: a\0b\r\n'))
bad('F15_space_colon', 'FLYD_MALFORMED', 'a blank before the colon', token('X : a\r\n'))
bad('F15_no_colon', 'FLYD_MALFORMED', 'a line that is no field', token(`${SECRET}\r\n`))
bad('F16_before', 'FLYD_MALFORMED', 'bytes before the status line', `${C}\r\n${token()}`)
bad('F16_crlf_before', 'FLYD_MALFORMED', 'an empty line before the status line', `\r\n${token()}`)
hidden('F16_after', 'F16 E10', 'bytes behind the answer are dropped, the connection with them', `${token()}${C}`, { sees: JWT, flyd: 'destroyed' })
hidden('F16_after_answer', 'F16 E10', 'a whole second answer is no answer to anybody', `${token()}${answer(`${JWT}poison`)}`, { sees: JWT, flyd: 'destroyed' })
hidden('F16_after_chunked', 'F16 E10', 'bytes behind the last chunk', `${chunks(`${chunk(JWT)}0\r\n\r\n`)}X`, { sees: JWT, flyd: 'destroyed' })
hidden('F16_after_204', 'G18 E10', '204 and then a body', `HTTP/1.1 204 No Content\r\n\r\n${C}`, { expect: '204', ask: 'read', flyd: 'destroyed' })
for (const [name, line] of Object.entries({ version: 'HTTP/2.0 200 OK', lower: 'http/1.1 200 OK', status_short: 'HTTP/1.1 20 OK', status_long: 'HTTP/1.1 2000 OK', status_zero: 'HTTP/1.1 099 OK', status_600: 'HTTP/1.1 600 X', tab: 'HTTP/1.1\t200 OK', icy: 'ICY 200 OK', http09: JWT, space: ' HTTP/1.1 200 OK', lf: 'HTTP/1.1 200 O\nK' })) {
  bad(`F16_line_${name}`, 'FLYD_MALFORMED', 'a status line that is none', token('', line))
}
bad('F16_lf_only', 'FLYD_CLOSED', 'bare line feeds throughout', token().replaceAll('\r\n', '\n'), { more: 'yes' })

for (const [name, value] of Object.entries({ gzip: 'gzip', br: 'br', zstd: 'zstd', deflate: 'deflate', x_gzip: 'x-gzip', two: 'gzip, br', lie: 'Identity, gzip', unknown: 'rot13' })) {
  bad(`G04_${name}`, 'FLYD_ENCODED', `content-encoding: ${value}`, token(`content-encoding: ${value}\r\n`), { id: 'G04 G05 G07 G08' })
}
bad('G05_second_line', 'FLYD_ENCODED', 'identity, then gzip on a second line', token('content-encoding: identity\r\ncontent-encoding: gzip\r\n'))
hidden('G05_identity', 'G05', 'identity', token('content-encoding: identity\r\n'), { sees: JWT })
bad('G01_echo_token', 'FLYD_NOT_A_TOKEN', 'the credential instead of a token', answer(C))
bad('G01_not_a_jwt', 'FLYD_NOT_A_TOKEN', 'JSON instead of a token', answer('{"token":"x"}'))
bad('G01_two_lines', 'FLYD_NOT_A_TOKEN', 'a token and more', answer(`${JWT}\nX`))
bad('G01_empty', 'FLYD_NOT_A_TOKEN', 'an empty token', answer(''))
bad('G14_64k', 'FLYD_TOO_LARGE', 'more than 64 KiB on the token route', answer(`${'a'.repeat(66_000)}.b.c`))
bad('G14_64k_chunked', 'FLYD_TOO_LARGE', 'and in chunks', chunks(chunk('a'.repeat(66_000))))
bad('G15_short', 'FLYD_CLOSED', 'a body that is cut', token().slice(0, -5), { more: 'yes' })
bad('G15_short_chunked', 'FLYD_CLOSED', 'chunks that are cut', chunks(chunk(JWT)), { more: 'yes' })
bad('G15_short_chunk', 'FLYD_CLOSED', 'a chunk that is cut', chunks(chunk(JWT).slice(0, -9)), { more: 'yes' })
bad('G15_no_trailer_end', 'FLYD_CLOSED', 'no last empty line', chunks(`${chunk(JWT)}0\r\n`), { more: 'yes' })
bad('G15_head_cut', 'FLYD_CLOSED', 'a head that is cut', 'HTTP/1.1 200 OK\r\ncontent-le', { more: 'yes' })
bad('G15_nothing', 'FLYD_CLOSED', 'no byte at all', '', { more: 'yes', asks: '2' })
bad('G15_short_read', 'FLYD_CLOSED | cut', 'a cut answer never passes for a whole one', answer('{"a":1}').slice(0, -2), { ask: 'read', more: 'yes' })
bad('G15_short_chunked_read', 'FLYD_CLOSED | cut', 'nor do cut chunks', chunks(chunk('{"a":1}')), { ask: 'read', more: 'yes' })
bad('G15_close_delimited', 'FLYD_MALFORMED', 'a body that ends with the connection', `HTTP/1.1 200 OK\r\n${TEXT}\r\n${JWT}`, { more: 'yes' })
bad('G15_close_delimited_10', 'FLYD_MALFORMED', 'and in HTTP/1.0', `HTTP/1.0 200 OK\r\n${TEXT}\r\n${JWT}`, { more: 'yes' })
bad('G18_204_length', 'FLYD_MALFORMED', '204 with a length', `HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello`, { ask: 'read' })
bad('G18_204_chunked', 'FLYD_MALFORMED', '204 with chunks', `HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`, { ask: 'read' })
bad('G18_205_length', 'FLYD_MALFORMED', '205 with a body', answer('hello', '', 'HTTP/1.1 205 Reset Content'), { ask: 'read' })
bad('G18_205_unframed', 'FLYD_MALFORMED', '205 without a length ends where the connection does', 'HTTP/1.1 205 Reset Content\r\n\r\n', { ask: 'read' })
bad('G18_304', 'FLYD_REDIRECTED', '304 that nobody asked for', 'HTTP/1.1 304 Not Modified\r\n\r\n', { ask: 'read' })
for (const [name, size] of Object.entries({ plus: '+5', prefix: '0x5', empty: '', blank: ' 5', blank_end: '5 ', letter: 'g', huge: 'fffffffffffffffff', minus: '-1' })) {
  bad(`G14_size_${name}`, 'FLYD_MALFORMED', `chunk size ${JSON.stringify(size)}`, chunks(`${size}\r\n${C}\r\n0\r\n\r\n`))
}
bad('G14_size_endless', 'FLYD_MALFORMED', 'a chunk size that never ends', chunks('0'.repeat(5000)))
bad('G14_extension_comma', 'FLYD_MALFORMED', 'an extension that llhttp refuses (found by fuzzing)', chunks(`${chunk(JWT, `;,=${SECRET}`)}0\r\n\r\n`))
bad('G14_extension_5k', 'FLYD_MALFORMED', 'an extension of 5 KB', chunks(`5;${'a'.repeat(5000)}\r\n`))
bad('G14_extension_lf', 'FLYD_MALFORMED', 'a bare LF in an extension', chunks(`5;a\nb\r\nhello\r\n0\r\n\r\n`))
bad('G14_chunk_end', 'FLYD_MALFORMED', 'a chunk longer than it says', chunks(`5\r\nhelloXX\r\n0\r\n\r\n`))
bad('G14_chunk_end_read', 'FLYD_MALFORMED | cut', 'the same, streamed', chunks(`5\r\nhelloXX\r\n0\r\n\r\n`), { ask: 'read' })
bad('G14_trailers_33', 'FLYD_MALFORMED', '33 trailers', chunks(`${chunk(JWT)}0\r\n${'X: y\r\n'.repeat(33)}\r\n`))
bad('G14_trailer_bad', 'FLYD_MALFORMED', 'a trailer that is no field', chunks(`${chunk(JWT)}0\r\n${SECRET}\r\n\r\n`))
bad('G14_trailer_framing', 'FLYD_MALFORMED', 'a trailer that names framing (found by fuzzing)', chunks(`${chunk(JWT)}0\r\ntransfer-encoding: \r\n\r\n`))
bad('G14_trailer_length', 'FLYD_MALFORMED', 'a length in a trailer', chunks(`${chunk(JWT)}0\r\ncontent-length: 5\r\n\r\n`))
bad('G14_trailer_long', 'FLYD_MALFORMED', 'a trailer of 5 KB', chunks(`${chunk(JWT)}0\r\nX: ${'a'.repeat(5000)}\r\n\r\n`))

// Bodies on a route that streams: only strip stands here.
const stripped = (name: string, id: string, comment: string, bytes: string | Buffer): void =>
  response(name, { expect: '200', ask: 'read', id, needs: 'strip' }, comment, bytes)
stripped('G01_verbatim', 'G01', 'the credential', answer(C))
stripped('G01_member', 'G01', 'without its scheme', answer(`{"t":"${C.slice(6)}"}`))
stripped('G02_chunks', 'G02', 'one byte a chunk', chunks(`${Array.from(C, (c) => chunk(c)).join('')}0\r\n\r\n`))
stripped('G02_two_chunks', 'G02', 'cut in two', chunks(`${chunk(C.slice(0, 200))}${chunk(C.slice(200))}0\r\n\r\n`))
for (const shift of [0, 1, 2]) stripped(`G03_base64_${shift}`, 'G03', `base64, shift ${shift}`, answer(Buffer.from('x'.repeat(shift) + C).toString('base64')))
stripped('G03_base64url', 'G03', 'base64url', answer(Buffer.from(C).toString('base64url')))
stripped('G03_hex', 'G03', 'hex', answer(Buffer.from(C).toString('hex')))
stripped('G03_hex_upper', 'G03', 'hex in upper case', answer(Buffer.from(C).toString('hex').toUpperCase()))
stripped('G03_percent', 'G03', 'percent', answer([...Buffer.from(C)].map((c) => `%${c.toString(16)}`).join('')))
stripped('G03_raw', 'G03', 'the decoded bytes', answer(Buffer.from(C.slice(6), 'base64url').toString('latin1')))
stripped('G03_raw_hex', 'G03', 'the decoded bytes in hex', answer(Buffer.from(C.slice(6), 'base64url').toString('hex')))
stripped('G10_fragment', 'G10', 'forty characters of the signature', answer(`x ${SECRET.slice(2, 42)} y`))
stripped('G10_sixteen', 'G10', 'sixteen of them', answer(SECRET.slice(10, 26)))
stripped('G12_error', 'G12', 'an error that quotes the request', answer(`{"error":"bad token ${C}"}`, '', 'HTTP/1.1 200 OK'))

export { made }

/** Writes all files, and only those. */
if (process.argv[1] === import.meta.filename) {
  for (const kind of ['request', 'response']) rmSync(join(CORPUS, kind), { recursive: true, force: true })
  for (const [path, bytes] of made) {
    mkdirSync(dirname(join(CORPUS, path)), { recursive: true })
    writeFileSync(join(CORPUS, path), bytes)
  }
  console.log(`${made.size} cases`)
}
