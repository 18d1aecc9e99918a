/** The bytes that the golden blocks hold: lines, noise, a long run of zeros, matches near and beyond 16 KiB. */
export const goldenBytes = (): Uint8Array => {
  const lines = Buffer.from(Array.from({ length: 40 }, (_, line) => `line ${line} of the fixture\n`).join(''))
  let seed = 1n
  const noise = Buffer.from(
    Array.from({ length: 300 }, () => {
      seed = (seed * 1103515245n + 12345n) & 0x7fffffffn
      return Number((seed >> 16n) & 255n)
    }),
  )
  return new Uint8Array(
    Buffer.concat([lines, noise, Buffer.alloc(20000), lines, noise, Buffer.alloc(50), noise.subarray(0, 7)]),
  )
}

const decoded = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'))

/** by `xz --format=lzma --lzma1=preset=6,dict=64KiB` (5.4.1), the size written into the header as squashfs-tools does; the end marker stays */
export const goldenLzma = decoded(
  'XQAAAQDNVwAAAAAAAAA2GkofCKAmA00GnfiypaypRH0yq/2gUVH9Fib3U0MSULI1jMuXNWfH7N3XGvAhwGauU4vFHizoWviPioe3HTglNU4w1nrcqKgS7fYU63P/HuwWXrYWGzqM1BPTTarp7dgeNwvUyZYJ/Ed8oEj3PC3FMmEm9IFcgmM1HDrvoBbDQVwEhUzqsicHBvAjgDcINcESjllo5GXrpMu8yJmRbxgsonfC5vqaGBpRUUg7UjEd3yYB3bdNC/egQ2uutCyTyqvl5NLYq8JZifgP5k0DBuc1yu7u2aJQ/diLESgb+P1kX5jOZ60sNCrMyfMkjbOPjm4mdk2NfD4VsqZeeiOu8XTfv0XAISJd/xPhsSazfUQaoBxMPjIBV51RM7pZNRNCBwdgZb6hxrVqm1Rqgf30NoSxoyIz6AGnzk4f6ifJCrngRwLK6Ivn6zrFHJJZN+xVdHzHSMAT3YCNgTDfv1BUL3bNe2oN5wJLEuHOvb52T5TKSbPV9zH3eEDWCBIErGGG47j14rihdezYqxG8W8FXheP5z3eHCsXTHk9roVuWs4ohDEoTy7+eGGULKwxSQLs3togsRTBU0X6jH8ESLn7yCc8BD/09D9YxCR1Ng0KkrrZpub+B798tk2glfWC3XDY6kDVPitPCVKK/eGKDPP/z3GQU',
)

/** by `lzop -9` (1.04, lzo1x_999), without the container */
export const goldenLzo999 = decoded(
  'J2xpbmUgMCBvZiB0aGUgZml4dHVyZQqVAjEzVQAyM1UAMzNVADQzVQA1M1UANjNVADczVQA4M1UAOTQUAzVwAzR1AzE0eQMxNH0DMTSBAzE0hQMxNIkDMTSNAzE0kQMxNJUDMjSVAzI1DAc0lQMyNJUDMjSVAzI0lQMyNJUDMjSVAzI0lQMyNJUDMzSVAzM0lQMzNagKNJUDMzSVAzM0lQMzNJUDMzSVAzM0lQMzL5QDAAAcxn6Ba0v74vtU9r3ffBzhhwG/Md5Wcg9HZ2aHWaqIPFnqVhN70oWh2DxUVS83rmVb2gJ5mMzjGnaOX9mZjx8/Nu5DeE0N+r6m2uSGjtwpbU7/VuFwIPuPsVgFkMUJ3FPNqjtImVLTUp0Gn+q1wgYTmEmyAR6sMogxnFJGlXE2j1f2OR0W+oh09Zh8F1xBu21xjg9wWccBGy8zPZHAHaUNDaszjX5ejz7maHSmOrHDkxGoZMfbyuBg4fO/CQBnouMloCExh9VixahPfi4Ja5SfsG2pnloLRnCAts9HDKalKtis+6Drt3kkciOSSIDFpqeFt9eMkOSrY0RSZuOcMyX5Xqq6c2BdS3F+vqmMVxlxw8pe5SozrIhRZqF7dWdkmmnvb1ZCoB1RxQL3u5JFACAAAAAAAAAA5gAAIAAAAAAAAADmAAAgAAAAAAAAAOYAACAAAAAAAAAA5gAAIAAAAAAAAADmAAAgAAAAAAAAAOYAACAAAAAAAAAA5gAAIAAAAAAAAADmAAAgAAAAAAAAAOYAACAAAAAAAAAEAAAQAAAAAOdoS9QrEQAA',
)

/** by `lzop -3` (1.04, lzo1x_1), without the container */
export const goldenLzo1 = decoded(
  'AARsaW5lIDAgb2YgdGhlIGZpeHR1cmUKlQIxM1UAMjNVADMzVQA0M1UANTNVADYzVQA3M1UAODNVADkzVQAxNXADNHUDMTR5AzE0fQMxNIEDMTSFAzE0iQMxNI0DMTSRAzE0lQMyNJUDMjSVAzI0lQMyNJUDMjSVAzI0lQMyNJUDMjSVAzI0lQMyNJUDMzSVAzM0lQMzNJUDMzSVAzM0lQMzNJUDMzSVAzM0lQMzNJUDMy+UAwAALcZ+gWtL++L7VPa933wc4YcBvzHeVnIPR2dmh1mqiDxZ6lYTe9KFodg8VFUvN65lW9oCeZjM4xp2jl/ZmY8fPzbuQ3hNDfq+ptrkho7cKW1O/1bhcCD7j7FYBZDFCdxTzao7SJlS01KdBp/qtcIGE5hJsgEerDKIMZxSRpVxNo9X9jkdFvqIdPWYfBdcQbttcY4PcFnHARsvMz2RwB2lDQ2rM41+Xo8+5mh0pjqxw5MRqGTH28rgYOHzvwkAZ6LjJaAhMYfVYsWoT34uCWuUn7BtqZ5aC0ZwgLbPRwympSrYrPug67d5JHIjkkiAxaanhbfXjJDkq2NEUmbjnDMl+V6qunNgXUtxfr6pjFcZccPKXuUqM6yIUWahe3VnZJpp729WQqAdUcUC97uSRQAAAAAAAAAAAAAAAAAAAAAAACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA7JAATEEsQDcRAEA3AQBAOvEAQDFhJEA20QBANsEAQDaxAEA2oQBANpEAQCKBAjBsQAAAA/mhLCwAAAAAAAADGfoFrS/viEQAA',
)
