/** Characters of the bytes 0x80 to 0xff in code page 437. @see unicode.org Public/MAPPINGS/VENDORS/MICSFT/PC/CP437.TXT */
const UPPER_HALF =
  'ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0'

/** Decodes bytes of code page 437, the one that Linux takes for short names where it is told none. */
export const decodeCodePage = (bytes: Uint8Array): string => {
  let text = ''
  for (const byte of bytes) text += byte < 0x80 ? String.fromCharCode(byte) : UPPER_HALF[byte - 0x80]
  return text
}

/** A name in lower case, where the code page has the lower-case character too. */
export const lowerInCodePage = (text: string): string => {
  let lowered = ''
  for (const character of text) {
    const lower = character.toLowerCase()
    lowered += lower < '\x80' || (lower.length === 1 && UPPER_HALF.includes(lower)) ? lower : character
  }
  return lowered
}
