import { mkdir } from 'node:fs/promises'
import { beforeAll, expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { type Iso9660, type Iso9660Options, openIso9660 } from '../../src/fs/iso9660/reader.js'
import { differences, listFs, listTree, makeIso, makeIsoTree } from '../support/iso-images.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
const tools = needTools('xorriso', 'genisoimage')

const withIso = async <T>(file: string, work: (iso: Iso9660) => Promise<T>, options?: Iso9660Options): Promise<T> => {
  const image = await openFile(file)
  try {
    return await work(await openIso9660(image, options))
  } finally {
    await image.close()
  }
}

tools.describe('ISO 9660, read', () => {
  let tree: string
  let truth: ReadonlyMap<string, string>
  beforeAll(async () => {
    tree = await path('tree')
    await mkdir(tree)
    await makeIsoTree(tree)
    truth = await listTree(tree)
  })
  it.each(['xorriso', 'genisoimage'] as const)('reads Rock Ridge as %s wrote it', async program => {
    const words = ['-R', '-J', '-joliet-long', '-V', 'A label', '-m', program === 'xorriso' ? 'none' : '*long path']
    const image = await makeIso(program, tree, await path(`${program}.iso`), words)
    await withIso(image, async iso => {
      expect(iso.tree).toBe('rockridge')
      expect(differences(await listFs(iso), truth)).toEqual([])
    })
  })
})
