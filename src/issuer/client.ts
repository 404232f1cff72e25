// flyd's side of the signing socket.

import { Pool } from 'undici'
import type { Subject } from './claims.ts'

export interface Signer {
  /** An ID token for the Machine; throws when the issuer is away or refuses. */
  sign(ask: { subject: Subject; aud: string | undefined; awsPrincipalTags: boolean }): Promise<string>
  rotate(org: string): Promise<void>
  close(): Promise<void>
}

export function signerAt(path: string): Signer {
  const pool = new Pool('http://issuer', {
    socketPath: path,
    connections: 4,
    headersTimeout: 5_000,
    bodyTimeout: 5_000,
  })
  const post = async (to: string, body: object): Promise<{ status: number; text: string }> => {
    const answer = await pool.request({
      method: 'POST',
      path: to,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    return { status: answer.statusCode, text: await answer.body.text() }
  }
  return {
    async sign({ subject, aud, awsPrincipalTags }) {
      const { status, text } = await post('/sign', { subject, aud, aws_principal_tags: awsPrincipalTags })
      if (status !== 200) throw new Error(`the issuer refused to sign (${status})`)
      return text
    },
    async rotate(org) {
      const { status } = await post(`/rotate/${org}`, {})
      if (status !== 204) throw new Error(`the issuer did not rotate the keys of ${org} (${status})`)
    },
    close: () => pool.destroy(),
  }
}
