import type { CommandUnknownOpts } from '@commander-js/extra-typings'

const escape_ = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1')

const optionLines = (command: CommandUnknownOpts): string[] =>
  command.options.flatMap(option => ['.TP', `.B ${escape_(option.flags)}`, `${escape_(option.description)}.`])

/** The examples of a verb's help; commander keeps them as text to be added behind it. */
const examplesOf = (command: CommandUnknownOpts): string[] => {
  let help = ''
  command.configureOutput({ writeOut: text => (help += text) }).outputHelp()
  return (/Examples:\n([\s\S]*?)\n\n?$/.exec(help)?.[1] ?? '')
    .split('\n')
    .map(line => line.trim())
    .filter(Boolean)
}

/** The manual page in roff, made from the program itself. @see man(7) */
export const manual = (program: CommandUnknownOpts): string => {
  const verbs = program.commands
  const lines = [
    `.TH LIVEOS 1 "" "liveos ${program.version() ?? ''}" "User Commands"`,
    '.SH NAME',
    'liveos \\- keep live\\-USB systems alive',
    '.SH SYNOPSIS',
    '.B liveos',
    '.I VERB',
    '[\\fITARGET\\fR] [\\fIOPTIONS\\fR]',
    '.SH DESCRIPTION',
    escape_(
      'Shows, merges and refreshes LiveOS sticks: a root filesystem inside a squashfs, with a device-mapper snapshot overlay for changes. Works on plain files, without root, loop devices or device-mapper. TARGET is the directory where the stick is mounted, or, for verbs that only read, also a disk, partition, image, ISO or web address of one; --base FILE and --overlay FILE name a bare pair in its place.',
    ),
    '.SH VERBS',
  ]
  for (const verb of verbs) {
    lines.push(`.SS ${verb.name()}`, escape_(verb.description()), ...optionLines(verb))
    const examples = examplesOf(verb)
    if (examples.length > 0) lines.push('.PP', 'Examples:', '.nf', ...examples.map(escape_), '.fi')
  }
  lines.push(
    '.SH EXIT STATUS',
    ...[
      ['0', 'done, and healthy'],
      ['1', 'done, and something needs attention'],
      ['2', 'the request was wrong, or something it names is not there'],
      ['3', 'the image is damaged or of an unsupported kind'],
      ['4', 'refused: in use, or changed since it was planned'],
      ['5', 'no space left, or an I/O error'],
      ['130', 'stopped, or the answer was No'],
    ].flatMap(([code, words]) => ['.TP', `.B ${code}`, `${escape_(words!)}.`]),
    '.SH ENVIRONMENT',
    '.TP',
    '.B NO_COLOR',
    'No colours, whatever its value.',
  )
  return `${lines.join('\n')}\n`
}
