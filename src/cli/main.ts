import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { CommanderError, InvalidArgumentError } from '@commander-js/extra-typings'
import { isLiveError, LiveError } from '../error.js'
import { toleratePipe } from './pipe.js'
import { buildProgram } from './program.js'
import { fail, printError } from './run.js'
import { EXIT } from './words.js'

const version = (): string => {
  const { version: text } = JSON.parse(readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8')) as {
    version: string
  }
  return text
}

/** Where a message says to run this again as somebody else, the dots become the line to type. Only here it is known. */
const withLine = async (error: unknown, argv: readonly string[]): Promise<unknown> => {
  if (!isLiveError(error) || !error.message.includes('liveos …')) return error
  // an address may hold a password, which is not to be shown
  if (argv.some(word => word.includes('://'))) return error
  const { shellWord } = await import('../ops/target.js')
  const line = `liveos ${argv.map(shellWord).join(' ')}`
  return new LiveError(
    error.code,
    error.message.replace('liveos …', () => line),
    error.data,
    error.cause,
  )
}

/**
 * Runs one command line.
 *
 * @param argv  the words behind the program's name
 * @returns     the exit code
 */
export const main = async (argv: readonly string[]): Promise<number> => {
  toleratePipe()
  let code = 0
  const json = argv.includes('--json')
  try {
    const done = (result: number): void => {
      code = result
    }
    const program = buildProgram(version(), done, argv[0])
    for (const command of [program, ...program.commands]) command.exitOverride()
    await program.parseAsync([...argv], { from: 'user' })
    return code
  } catch (error) {
    // thrown by a verb over options that do not go together: nobody has said it yet
    if (error instanceof InvalidArgumentError) return fail(new LiveError('USAGE', error.message), json)
    // help and version end this way too, with 0; what commander has said of a wrong command line stands on stderr
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0
      if (json) printError(new LiveError('USAGE', error.message.replace(/^error: /, '')))
      return EXIT.USAGE
    }
    return fail(await withLine(error, argv), json)
  }
}
