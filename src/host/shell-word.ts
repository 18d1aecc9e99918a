import { encodeName } from '../fs/name.js'

const octal = (byte: number): string => `\\${byte.toString(8).padStart(3, '0')}`

/** In bash's own quotes all is printable, so that neither a terminal nor whoever reads it is deceived. */
const ansiQuoted = (text: string): string => {
  const shown = [...text].map(character => {
    if (character === "'" || character === '\\') return `\\${character}`
    return /^[\x20-\x7e]$/.test(character) ? character : [...encodeName(character)].map(octal).join('')
  })
  return `$'${shown.join('')}'`
}

/** Control and format characters, lone surrogates, and blanks that are none to a shell. */
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u

/** A word for bash that stands for this text and nothing else, on one line. Bytes of names that are no UTF-8 come back as they were. */
export const shellWord = (text: string): string => {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text
  return UNSEEN.test(text) ? ansiQuoted(text) : `'${text.replaceAll("'", "'\\''")}'`
}

/** A command line in a sentence, between marks that are none of its own: it is plain where it begins and ends. */
export const marked = (command: string): string => (command.includes("'") ? `“${command}”` : `'${command}'`)
