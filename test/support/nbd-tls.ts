import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** A certificate for localhost by an authority of its own, made by openssl. Paths and texts of its PEM files. */
export const identity = async (
  at: (name: string) => Promise<string>,
): Promise<{ ca: string; cert: string; key: string; paths: { ca: string; cert: string; key: string } }> => {
  const [caKey, ca, key, request, cert, extension] = await Promise.all(
    ['ca-key.pem', 'ca-cert.pem', 'server-key.pem', 'server.csr', 'server-cert.pem', 'extension'].map(at),
  )
  const newKey = ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  await run('openssl', [
    ...newKey,
    '-x509',
    '-days',
    '2',
    '-subj',
    '/CN=liveos test CA',
    '-keyout',
    caKey!,
    '-out',
    ca!,
  ])
  await run('openssl', [...newKey, '-subj', '/CN=localhost', '-keyout', key!, '-out', request!])
  await run('sh', ['-c', `echo 'subjectAltName=DNS:localhost,IP:127.0.0.1' > '${extension}'`])
  await run('openssl', [
    ...['x509', '-req', '-in', request!, '-CA', ca!, '-CAkey', caKey!, '-CAcreateserial', '-days', '2'],
    ...['-extfile', extension!, '-out', cert!],
  ])
  const [caText, certText, keyText] = await Promise.all([ca, cert, key].map(path => readFile(path!, 'utf8')))
  return { ca: caText!, cert: certText!, key: keyText!, paths: { ca: ca!, cert: cert!, key: key! } }
}
