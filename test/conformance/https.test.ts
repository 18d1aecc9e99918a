import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer as createTlsServer } from 'node:https'
import { expect, test } from 'vitest'
import { openHttp } from '../../src/block/http.js'
import { serveFile } from '../support/http-server.js'
import { failure, sameBytes } from '../support/outcome.js'
import { random } from '../support/random.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const content = random(21).bytes(1_000_003)
/** The answer was given. */
const taken = (_done: unknown): true => true
const path = temporary()
needTools('openssl').describe('https', () => {
  test('is read, its certificate judged, and never left for http', async () => {
    const [key, cert] = [await path('key.pem'), await path('cert.pem')]
    execFileSync(
      'openssl',
      ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'].concat(
        '-subj',
        '/CN=localhost',
        '-addext',
        'subjectAltName=IP:127.0.0.1',
        '-keyout',
        key,
        '-out',
        cert,
      ),
      { stdio: 'pipe' },
    )
    const ca = readFileSync(cert)
    const plain = await serveFile({ bytes: content })
    const server = await serveFile(
      {
        bytes: content,
        before: (request, response) =>
          request.url === '/down' && taken(response.writeHead(302, { location: plain.url }).end()),
      },
      listener => createTlsServer({ key: readFileSync(key), cert: ca }, listener) as never,
    )
    const url = `https://127.0.0.1:${server.port}`
    const device = await openHttp(`${url}/x`, { agent: { ca } })
    sameBytes(await device.read(500_000, 10), content.subarray(500_000, 500_010))
    expect((await failure(openHttp(`${url}/x`), 'IO')).message).toMatch(/self.signed/)
    expect((await failure(openHttp(`${url}/down`, { agent: { ca } }), 'REFUSED')).message).toContain(
      'redirects to http:',
    )
    // up is fine
    const upwards = await serveFile({
      bytes: content,
      before: (_request, response) => taken(response.writeHead(302, { location: `${url}/x` }).end()),
    })
    await (await openHttp(upwards.url, { agent: { ca } })).close()
    await device.close()
  })
})
