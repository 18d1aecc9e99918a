// The files of the sample stick, all generated from a seed: no third-party text or binary is in them.
//   node make-sample-tree.mjs tree DIR     DIR/root (the base image's tree), DIR/home (home.img), DIR/session (what the user adds)
//   node make-sample-tree.mjs facts DIR    prints facts.json from what make-sample-guest.sh left in DIR

import { createHash } from 'node:crypto'
import { chmodSync, linkSync, mkdirSync, readFileSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const BUILT = Date.UTC(2026, 2, 2, 8) / 1000

/** A repeatable source of numbers below n (mulberry32). */
const randomOf = seed => {
  let state = seed >>> 0
  return n => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) % n
  }
}

const SYLLABLES =
  'ba be bo ka ke ko la le lo ma me mi na ne no ra re ri sa se so ta te to va ve vi ul an er in os'.split(' ')
const wordsOf = random =>
  Array.from({ length: 900 }, () =>
    Array.from({ length: 1 + random(4) }, () => SYLLABLES[random(SYLLABLES.length)]).join(''),
  )

const sentence = (random, words) => {
  const text = Array.from({ length: 5 + random(12) }, () => words[Math.min(random(900), random(900))]).join(' ')
  return `${text[0].toUpperCase()}${text.slice(1)}.`
}

/** About `bytes` bytes of text in paragraphs. */
const prose = (seed, bytes) => {
  const random = randomOf(seed)
  const words = wordsOf(randomOf(1))
  let text = ''
  while (text.length < bytes)
    text += `${Array.from({ length: 3 + random(5) }, () => sentence(random, words)).join(' ')}\n\n`
  return `${text.slice(0, bytes - 1)}\n`
}

/** `bytes` bytes that compress about as well as machine code: few patterns, operands that vary, tables in between. */
const library = (seed, bytes) => {
  const random = randomOf(seed)
  const patterns = Array.from({ length: 160 }, () =>
    Buffer.from(Array.from({ length: 3 + random(9) }, () => random(256))),
  )
  const out = Buffer.alloc(bytes)
  out.write('\x7fSAMPLE-LIBRARY\n', 'latin1')
  for (let at = 16; at < bytes; ) {
    const kind = random(64)
    if (kind === 0)
      at += 64 + random(900) // a table of zeros
    else if (kind < 9) at += out.write(`sample_${SYLLABLES[random(32)]}${SYLLABLES[random(32)]}_${random(40)}\0`, at)
    else {
      at += patterns[Math.min(random(160), random(160), random(160))].copy(out, at)
      if (random(5) === 0 && at < bytes) out[at++] = random(256)
    }
  }
  return out
}

/** A log: one line a minute, few distinct messages. */
const log = (seed, start, lines) => {
  const random = randomOf(seed)
  const words = wordsOf(randomOf(1))
  const messages = Array.from({ length: 60 }, () => sentence(random, words))
  return Array.from({ length: lines }, (_, i) => {
    const time = new Date((start + i * 60) * 1000).toISOString().slice(0, 19)
    return `${time} sample-live daemon-${random(6)}[${400 + random(300)}]: ${messages[random(60)]}\n`
  }).join('')
}

const put = (path, content, mode = 0o644) => {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, content)
  chmodSync(path, mode)
  utimesSync(path, BUILT, BUILT)
}

const writeRoot = root => {
  const file = (path, content, mode) => put(join(root, path), content, mode)
  file(
    'etc/os-release',
    'NAME="Sample Live"\nID=sample-live\nVERSION_ID=1\nPRETTY_NAME="Sample Live 1"\nHOME_URL="https://example.invalid/"\n',
  )
  file('etc/hostname', 'sample-live\n')
  file('etc/locale.conf', 'LANG=C.UTF-8\n')
  file(
    'etc/fstab',
    '# the root is a device-mapper snapshot, set up by the initramfs\n/dev/root / ext4 defaults,noatime 0 0\n',
  )
  file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nliveuser:x:1000:1000:Live User:/home/liveuser:/bin/sh\n')
  file('etc/group', 'root:x:0:\nliveuser:x:1000:\n')
  file('etc/shadow', 'root:!:20500:0:99999:7:::\nliveuser::20500:0:99999:7:::\n', 0o600)
  file('etc/sample-desktop.conf', `wallpaper=plain\n${prose(11, 3000)}`)
  file('etc/sudoers.d/README', prose(12, 400), 0o440)
  for (let i = 0; i < 24; i++) file(`etc/sample.d/${String(i).padStart(2, '0')}.conf`, prose(100 + i, 200 + i * 90))
  for (let i = 1; i <= 12; i++)
    file(`usr/lib/libsample-${String(i).padStart(2, '0')}.so.1`, library(200 + i, 640_000 + i * 97_001), 0o755)
  symlinkSync('libsample-01.so.1', join(root, 'usr/lib/libsample.so'))
  for (const name of ['sample-sh', 'sample-su', 'sample-ping', 'sample-edit'])
    file(`usr/bin/${name}`, library(name.length * 31 + name.charCodeAt(8), 90_000), 0o755)
  linkSync(join(root, 'usr/bin/sample-edit'), join(root, 'usr/bin/sample-view'))
  symlinkSync('usr/bin', join(root, 'bin'))
  symlinkSync('usr/lib', join(root, 'lib'))
  symlinkSync(`/${'deep/'.repeat(30)}target-longer-than-sixty-bytes`, join(root, 'usr/lib/dangling'))
  for (let i = 1; i <= 20; i++) {
    const folder = `usr/share/doc/package-${String(i).padStart(2, '0')}`
    file(`${folder}/manual.txt`, prose(300 + i, 20_000 + i * 2_500))
    file(`${folder}/changelog`, prose(400 + i, 1_000 + i * 130))
  }
  file('usr/share/doc/übersicht.txt', prose(13, 900))
  for (let i = 0; i < 3; i++) file(`var/cache/sample/index-${i}.bin`, library(500 + i, 150_000))
  file('var/lib/sample-packages/installed', Array.from({ length: 20 }, (_, i) => `package-${i + 1} 1.0\n`).join(''))
  file('var/log/messages', log(14, BUILT - 86_400, 1_000))
  file('var/log/boot.log', '')
  file('home/liveuser/.profile', 'export EDITOR=sample-edit\n')
  for (const folder of ['dev', 'proc', 'run', 'sys', 'tmp', 'root', 'mnt', 'srv']) mkdirSync(join(root, folder))
  chmodSync(join(root, 'tmp'), 0o1777)
  chmodSync(join(root, 'root'), 0o700)
}

const writeSession = session => {
  for (let i = 1; i <= 14; i++) put(join(session, `documents/minutes-${i}.txt`), prose(600 + i, 12_000 + i * 4_000))
  put(join(session, 'documents/photos/table.raw'), Buffer.from(Array.from({ length: 200_000 }, randomByte(15))))
  put(join(session, 'lib/libsample-02.so.2'), library(702, 900_000), 0o755)
  put(join(session, 'lib/libsample-05.so.1'), library(705, 1_150_000), 0o755)
  put(join(session, 'lib/libsample-09.so.1'), library(709, 700_000), 0o755)
  put(join(session, 'packages.txt'), Array.from({ length: 14 }, (_, i) => `package-${i + 7} 1.${i % 3}\n`).join(''))
  put(join(session, 'journal.txt'), log(16, Date.UTC(2026, 4, 2) / 1000, 110_000))
}

const randomByte = seed => {
  const random = randomOf(seed)
  return () => random(256)
}

const writeTree = target => {
  writeRoot(join(target, 'root'))
  writeSession(join(target, 'session'))
  put(join(target, 'home/liveuser/Documents/letter.txt'), prose(17, 5_000))
  put(join(target, 'home/liveuser/.config/editor.conf'), 'tabs=2\n')
  mkdirSync(join(target, 'home/lost+found'), { recursive: true })
}

/** The kernel's truth as JSON, one file of the merged view a line. */
const facts = out => {
  const text = name => readFileSync(join(out, name), 'utf8').trimEnd()
  const image = name => {
    const bytes = readFileSync(join(out, name))
    return { bytes: statSync(join(out, name)).size, sha256: createHash('sha256').update(bytes).digest('hex') }
  }
  const hashes = new Map(
    text('sha256')
      .split('\n')
      .map(line => [line.slice(68), line.slice(0, 64)]),
  )
  const files = text('tree')
    .split('\n')
    .map(line => {
      const [path, type, mode, uid, gid, size, links, mtime, target] = line.split('\t')
      const entry = {
        path: `/${path}`,
        type,
        mode,
        uid: +uid,
        gid: +gid,
        size: +size,
        links: +links,
        mtime: Math.floor(+mtime),
      }
      return { ...entry, ...(type === 'l' ? { target } : {}), ...(type === 'f' ? { sha256: hashes.get(path) } : {}) }
    })
  const xattrs = text('xattrs')
    .split('\n\n')
    .map(block => {
      const [file, ...pairs] = block.split('\n')
      return {
        path: file.slice('# file: '.length),
        ...Object.fromEntries(pairs.map(pair => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)])),
      }
    })
  const head = {
    about: 'What the real kernel says of this stick; made by scripts/make-sample.sh.',
    kernel: text('kernel'),
    mksquashfs: text('mksquashfs'),
    mke2fs: text('mke2fs'),
    table: text('table').replace(/^view: /, ''),
    status: text('status').replace(/^view: /, ''),
    originBytes:
      +text('table')
        .replace(/^view: /, '')
        .split(' ')[1] * 512,
    originSha256: text('origin.sha256'),
    mergedSha256: text('merged.sha256'),
    e2fsckRc: +text('e2fsck.rc'),
    images: {
      'LiveOS/squashfs.img': image('squashfs.img'),
      'LiveOS/overlay-LIVE-1A2B-3C4D': image('overlay'),
      'LiveOS/home.img': image('home.img'),
    },
    xattrs,
  }
  const list = files.map(file => `    ${JSON.stringify(file)}`).join(',\n')
  return `${JSON.stringify(head, null, 2).slice(0, -2)},\n  "files": [\n${list}\n  ]\n}\n`
}

const [command, directory] = process.argv.slice(2)
if (command === 'tree') writeTree(directory)
else if (command === 'facts') process.stdout.write(facts(directory))
else throw new Error('make-sample-tree.mjs tree|facts DIR')
