let isTolerated = false

/** Whoever reads our words may go, as for `liveos --help | head`: what is done is done to its end all the same. */
export const toleratePipe = (): void => {
  if (isTolerated) return
  isTolerated = true
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
}

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
