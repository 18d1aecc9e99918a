import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LiveError } from '../../../src/error.js'
import { parseDiscInfo, parseIni, parseOsRelease, readRelease } from '../../../src/liveos/release.js'
import { medium } from '../../support/boot-media.js'
import { file } from '../../support/mock-filesystem.js'

const SOAS = `NAME="Fedora Linux"
VERSION="39 (SoaS)"
ID=fedora
VERSION_ID=39
PRETTY_NAME="Fedora Linux 39 (SoaS)"
VARIANT="SoaS"
VARIANT_ID=soas
`

describe('os-release', () => {
  it('is read as a shell would', () => {
    const text = `# c\nA=plain\nB="two \\"words\\" \\$x \\q"\nC='single \\ "x"'\nD=a\\ b"c"'d' rest\n  E=1\nA=again\nno assignment\nF=\nG="open\nH=x\r\n`
    expect(Object.fromEntries(parseOsRelease(text))).toEqual({
      A: 'again',
      B: 'two "words" $x \\q',
      C: 'single \\ "x"',
      D: 'a bcd',
      E: '1',
      F: '',
      G: 'open',
      H: 'x',
    })
  })
  it('any text gives values', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('A', '=', '"', "'", '\\', ' ', '\n', '$', 'é') }), text => {
        for (const [name, value] of parseOsRelease(text))
          expect([name.length > 0, value.includes('\n')]).toEqual([true, false])
      }),
    )
  })
  it('a symlink out of /etc is followed inside the filesystem', async () => {
    for (const target of ['../usr/lib/os-release', '/usr/lib/os-release', '../../../../usr/lib/os-release']) {
      const release = await readRelease(
        medium({ '/etc/os-release': `-> ${target}`, '/usr/lib/os-release': SOAS }, 'ext4'),
      )
      expect(release).toMatchObject({
        source: '/etc/os-release',
        id: 'fedora',
        name: 'Fedora Linux',
        version: '39 (SoaS)',
        versionId: '39',
        prettyName: 'Fedora Linux 39 (SoaS)',
        variant: 'SoaS',
        variantId: 'soas',
        sugarVersion: undefined,
        findings: [],
      })
      expect(release!.soasMarks).toEqual(['VARIANT_ID=soas', 'its name says Sugar on a Stick'])
    }
  })
  it('a link in a circle is passed over', async () => {
    const release = await readRelease(
      medium(
        { '/etc/os-release': '-> os-release', '/etc/fedora-release': 'Fedora release 17 (Beefy Miracle)\n' },
        'ext4',
      ),
    )
    expect(release).toMatchObject({
      source: '/etc/fedora-release',
      id: 'fedora',
      name: 'Fedora',
      versionId: '17',
      version: '17 (Beefy Miracle)',
      prettyName: 'Fedora release 17 (Beefy Miracle)',
    })
  })
})

describe('other files', () => {
  it('the version of Sugar', async () => {
    const release = await readRelease(
      medium(
        {
          '/etc/system-release': 'Generic release 7\n',
          '/usr/lib/python3.12/site-packages/jarabe/config.py':
            "# made by configure\nprefix = '/usr'\nversion = '0.121'\n",
        },
        'ext4',
      ),
    )
    expect(release).toMatchObject({ sugarVersion: '0.121', soasMarks: ['Sugar is installed'], id: 'generic' })
    expect(
      (await readRelease(
        medium({ '/etc/os-release': 'ID=fedora\n', '/usr/bin/sugar': '#!' }, 'ext4', 'Fedora-SoaS-39'),
      ))!.soasMarks,
    ).toEqual(['label Fedora-SoaS-39', 'Sugar is installed'])
  })
  it('debian_version', async () => {
    expect(await readRelease(medium({ '/etc/debian_version': '12.5\n' }, 'ext4'))).toMatchObject({
      id: 'debian',
      versionId: '12.5',
      source: '/etc/debian_version',
    })
  })
  it('.treeinfo and .discinfo of installers', async () => {
    const tree =
      '[general]\nfamily = Fedora\narch = x86_64\nversion = 39\nvariant = Everything\n[tree]\narch=aarch64\n; c\n'
    expect(
      await readRelease(medium({ '/.treeinfo': tree, '/.discinfo': '1697013278.5\nFedora 39\nx86_64\nALL\n' })),
    ).toMatchObject({
      source: '/.treeinfo',
      id: 'fedora',
      name: 'Fedora',
      versionId: '39',
      prettyName: 'Fedora 39',
      variant: 'Everything',
      architecture: 'aarch64',
    })
    expect(parseDiscInfo('1697013278.5\nFedora 39\nx86_64\n')).toEqual({
      madeAt: 1697013278.5,
      release: 'Fedora 39',
      architecture: 'x86_64',
    })
    expect(parseDiscInfo('').madeAt).toBeUndefined()
    expect(parseIni('[a]\nx = 1\nx: 2\n[b]\ny=\n=z\n[a]\nw=3').get('a')).toEqual(
      new Map([
        ['x', '2'],
        ['w', '3'],
      ]),
    )
  })
  it('a line of spaces costs no more than its length', async () => {
    const text = `a${' '.repeat(1 << 19)}b\n`
    expect((await readRelease(medium({ '/etc/fedora-release': text, '/etc/os-release': text })))?.source).toBe(
      '/etc/os-release',
    )
  })
  it('nothing, too much, and what cannot be read', async () => {
    expect(await readRelease(medium({ '/etc/': '' }))).toBeUndefined()
    const huge = {
      name: 'huge',
      size: 100 << 20,
      close: async () => {},
      read: async () => {
        throw new Error('not to be read')
      },
    }
    const release = await readRelease(
      medium({
        '/etc/os-release': { kind: 'file', device: huge },
        '/usr/lib/os-release': file('', { fails: new LiveError('IO', 'broken') }),
      }),
    )
    expect(release!.findings.map(({ code }) => code)).toEqual(['RELEASE_TOO_LARGE', 'RELEASE_UNREADABLE'])
    expect(release!.id).toBeUndefined()
  })
})
