// dotfly proxy: the socket, and nothing else.

import { Failure } from '../errors.ts'
import { LaunchError } from '../init/error.ts'
import type { ProxyOptions } from '../init/options.ts'
import type { Probe } from '../init/probe.ts'
import { type Grammar, readArguments } from './arguments.ts'
import type { Level } from '../init/log.ts'
import type { Event } from '../proxy/event.ts'
import type { Log } from './log.ts'
import { guardOutput } from './output.ts'
import type { Environment } from './commands.ts'
import type { Metrics } from '../metrics/serve.ts'
import { declareProxy, logLevel, proxyOptions, type ProxyWords } from './settings.ts'
import { askedToEnd } from './signals.ts'

const HELP = `Usage: dotfly proxy [OPTION…] --macaroon-file FILE

Listens on a Unix socket, and passes the requests that its policy knows to flyd
with the Machine's macaroon attached. Whoever dials the socket never sees it.

    --socket PATH[,SETTING…]  a socket to serve, its directory made if missing;
                              may be given several times; default /.fly/api
                                                         DOTFLY_SOCKET
    --flyd URL                http://HOST:PORT, https://HOST:PORT, unix:/PATH or
                              vsock:CID:PORT, where the host of a virtual machine
                              has CID 2; default http://_api.internal:4280
                                                         DOTFLY_FLYD
    --flyd-ca FILE            PEM file of the only CA that may vouch for an https
                              flyd; default Node's own   DOTFLY_FLYD_CA
    --macaroon-file FILE      read the macaroon here     DOTFLY_MACAROON_FILE
    --macaroon-fd N           or from this descriptor    DOTFLY_MACAROON_FD
                              or else from $CREDENTIALS_DIRECTORY/macaroon
    --app NAME                this Machine's app; default $FLY_APP_NAME
                                                         DOTFLY_APP
    --machine ID              this Machine; default $FLY_MACHINE_ID
                                                         DOTFLY_MACHINE
    --log-level LEVEL         debug, info, warn, error or silent;
                              default info               DOTFLY_LOG_LEVEL
    --metrics ADDRESS         Prometheus metrics and /healthz at 127.0.0.1:PORT,
                              [::1]:PORT or unix:/PATH; default none
                                                         DOTFLY_METRICS
    -h, --help                this text

SETTING is one of

    mode=0755       file mode (default); connecting needs the write bit, which in
                    0755 the owner alone has: 0660 is for a group, 0666 for all
    uid=N, gid=N    owner and group, default dotfly's; with uid, only that user and
                    root are served; with gid alone, mode is 0660 by default
    policy=self     what may be asked: token (ID tokens only), self (also this
                    app's and this Machine's own routes; default), all (flyd
                    decides)
    aud=AUDIENCE    an audience that tokens may have; repeatable, default any
    allow=METHOD /v1/PATH
                    one more route; * is any one segment; repeatable

Several sockets in DOTFLY_SOCKET are set apart by a semicolon. Sockets that a
service manager hands over are matched by path. The macaroon itself is never
taken from the command line or from a variable. What happens is told on
standard output, in JSON, or plainly on a terminal; a socket is ready after the
line with "[fly api proxy] listening at PATH". SIGTERM and SIGINT end it in
order: open exchanges finish first.

Exit codes: 0 ended as asked, 1 failed, 2 wrong usage, 128+N ended by signal N.

Example: an app's own socket, for AWS tokens only

    dotfly proxy --macaroon-file /run/macaroon \\
        --socket /run/app.sock,mode=0600,uid=1000,policy=token,aud=sts.amazonaws.com
`

export const grammar: Grammar = {
  name: 'proxy',
  help: HELP,
  declare: (command) => declareProxy(command).option('--metrics <address>'),
}

export async function proxy(words: readonly string[], env: Environment): Promise<number> {
  const asked = await readArguments(grammar, words, (command) => {
    const typed = command.opts<ProxyWords & { metrics?: string }>()
    const metrics = typed.metrics ?? env['DOTFLY_METRICS'] ?? ''
    return { options: proxyOptions(typed, env), level: logLevel(typed, env), metrics }
  })
  return asked === undefined ? 0 : serve(asked.options, asked.level, asked.metrics, env)
}

async function serve(options: ProxyOptions, level: Level, metricsWord: string, env: Environment): Promise<number> {
  const metrics = metricsWord === '' ? undefined : await openMetrics(metricsWord, options)
  // Only now: a mistyped option needs neither libc nor a child process.
  const { superviseProxy } = await import('../init/launch.ts')
  const { refuseTracers } = await import('../os/confine.ts')
  // We keep the page's descriptor for the next start: no program of our user may take it from us, nor make Node open
  // the inspector, whose port any user could dial.
  refuseTracers()
  process.on('SIGUSR1', () => undefined)
  const { activated } = await import('../init/activation.ts')
  const { serviceOf } = await import('../init/service.ts')
  const end = askedToEnd()
  const service = serviceOf(env)
  const probe = service.watchdog === undefined ? undefined : await openProbe()
  const served = options.sockets.length
  let starts = 0
  const { promise: opened, resolve: open } = Promise.withResolvers<Log>()
  let log: Log | undefined
  /** What is said before the log is open waits for it. */
  const say = (it: (log: Log) => void): void => {
    if (log === undefined) void opened.then(it)
    else it(log)
  }
  try {
    const sockets = activated(options.sockets, env)
    if (probe !== undefined) sockets.push(probe.socket)
    const report = (event: Event): void => {
      if ('socket' in event && event.socket >= served) return // the probe's: nobody's request, nobody's news
      say((log) => log.event(event))
      metrics?.event(event)
      if (event.kind === 'listening' && event.socket === 0 && ++starts > 1)
        service.status(`${status(options)}, restarts of its process: ${starts - 1}`)
    }
    const tellsAll = metrics !== undefined || level === 'debug' || level === 'info'
    const launched = superviseProxy({ ...options, sockets, tellsAll }, report, {
      restarting(why, pause) {
        say((log) => log.restart(why, pause))
        metrics?.away()
      },
      untidy: (why) => say((log) => log.untidy(why)),
    })
    launched.catch(() => undefined) // awaited below
    // To load the logger takes as long as all else that is done here, so whoever dials goes first: in the first turn the
    // sockets are bound, in the second the process is started.
    await turn()
    await turn()
    guardOutput()
    const { openLog } = await import('./log.ts')
    log = openLog(process.stdout.isTTY ? 'human' : 'json', level, options.sockets)
    open(log)
    const supervised = await launched
    service.ready(status(options))
    if (probe !== undefined) service.watch((limit) => probe.ask(limit))
    await end.signal
    service.stopping('open exchanges finish')
    await supervised.stop()
    return 0
  } catch (caught) {
    if (caught instanceof LaunchError) throw new Failure(caught.message, { cause: caught })
    throw caught
  } finally {
    end.ignore()
    probe?.close()
    await metrics?.close()
    await log?.close()
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

const status = ({ sockets }: ProxyOptions): string => `serving ${sockets.map(({ path }) => path).join(', ')}`

/** Only under a service manager that watches. */
async function openProbe(): Promise<Probe> {
  const probe = await import('../init/probe.ts')
  return probe.openProbe()
}

/** Loaded when asked for. A mistyped address ends the command before anything is started. */
async function openMetrics(word: string, { sockets }: ProxyOptions): Promise<Metrics> {
  const [{ parseMetricsAddress }, { serveMetrics }] = await Promise.all([
    import('../metrics/address.ts'),
    import('../metrics/serve.ts'),
  ])
  return serveMetrics(parseMetricsAddress(word), sockets)
}
