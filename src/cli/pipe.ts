/** 128 + SIGPIPE, as a shell tells of a program that was ended by it. */
const BROKEN_PIPE = 141

let isSet = false

/** Ends the program without a word when nobody reads its standard output any more, as for `liveos ls … | head`. For verbs that write nothing else. */
export const quietPipe = (): void => {
  if (isSet) return
  isSet = true
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(BROKEN_PIPE)
    throw error
  })
}
