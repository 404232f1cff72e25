import { test } from 'tap'
import { Bucket, Limiter } from '../../src/flyd/bucket.ts'

test('a bucket gives its burst at once, then one token a second', async (t) => {
  const bucket = new Bucket({ rate: 1, burst: 3 }, 0)
  t.strictSame(
    [0, 0, 0].map(() => bucket.take(0)),
    [0, 0, 0],
  )
  t.equal(bucket.take(0), 1000)
  t.equal(bucket.take(400), 600, 'a refusal costs nothing')
  t.equal(bucket.take(1000), 0)
  t.equal(bucket.take(1000), 1000)
})

test('a bucket never holds more than its burst, and a clock set back gives and takes nothing', async (t) => {
  const bucket = new Bucket({ rate: 1, burst: 3 }, 0)
  t.strictSame(
    [0, 0, 0, 0].map(() => bucket.take(3_600_000)),
    [0, 0, 0, 1000],
  )
  t.equal(bucket.take(0), 1000)
  t.equal(bucket.take(1000), 0)
})

test('actions and Machines have buckets of their own, and GET machine a larger one', async (t) => {
  const limiter = new Limiter()
  const burst = (action: string, machine: string): number => {
    let taken = 0
    while (limiter.take(action, machine, 0) === 0) taken++
    return taken
  }
  t.equal(burst('oidc', 'a'), 3)
  t.equal(burst('oidc', 'b'), 3)
  t.equal(burst('stop', 'a'), 3)
  t.equal(burst('get machine', 'a'), 10)
  t.equal(limiter.take('get machine', 'a', 200), 0, 'five a second')
})
