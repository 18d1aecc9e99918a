import type { Socket } from 'node:net'
import { createServer } from 'node:tls'
import { LiveError } from '../error.js'

/** What a server needs for TLS; each is the text of a PEM file. */
export interface TlsIdentity {
  readonly cert: string
  readonly key: string
  /** authority that clients must have a certificate of; without it anyone is let in */
  readonly ca?: string | undefined
}

/**
 * A function that starts TLS on the server's side of a socket.
 *
 * @throws USAGE  certificate and key are no PEM, or don't belong together
 */
export const tlsStarter = ({ cert, key, ca }: TlsIdentity): ((socket: Socket) => Promise<Socket>) => {
  const options = {
    cert,
    key,
    ...(ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: true }),
    allowHalfOpen: true,
  }
  try {
    createServer(options)
  } catch (error) {
    throw new LiveError(
      'USAGE',
      `certificate and key can't be used for TLS: ${error instanceof Error ? error.message : String(error)}`,
      {},
      error,
    )
  }
  return socket =>
    new Promise((resolve, reject) => {
      // a server that listens nowhere checks the client's certificate as one that does
      const server = createServer(options, resolve)
      server.on('tlsClientError', error =>
        reject(new LiveError('IO', `TLS with an NBD client failed: ${error.message}`, {}, error)),
      )
      socket.once('close', () => reject(new LiveError('IO', 'an NBD client went while TLS was started')))
      server.emit('connection', socket)
    })
}
