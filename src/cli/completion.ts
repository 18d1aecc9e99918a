import type { CommandUnknownOpts } from '@commander-js/extra-typings'

const optionsOf = (command: CommandUnknownOpts): { flag: string; description: string }[] =>
  [
    ...command.options.map(option => ({ flag: option.long ?? option.short ?? '', description: option.description })),
    { flag: '--help', description: 'show help' },
  ].filter(({ flag }) => flag)

/** A completion script made from the program itself, so that it never lags behind. */
export const completion = (program: CommandUnknownOpts, shell: 'bash' | 'zsh' | 'fish'): string => {
  const verbs = program.commands
  if (shell === 'fish')
    return `${verbs
      .flatMap(verb => [
        `complete -c liveos -n __fish_use_subcommand -f -a ${verb.name()} -d '${verb.summary().replaceAll("'", '’')}'`,
        ...optionsOf(verb).map(
          ({ flag, description }) =>
            `complete -c liveos -n '__fish_seen_subcommand_from ${verb.name()}' -l ${flag.slice(2)} -d '${description.replaceAll("'", '’')}'`,
        ),
      ])
      .join('\n')}\n`
  const cases = verbs
    .map(
      verb =>
        `    ${verb.name()}) words="${optionsOf(verb)
          .map(({ flag }) => flag)
          .join(' ')}" ;;`,
    )
    .join('\n')
  const bash = `_liveos() {
  local current="\${COMP_WORDS[COMP_CWORD]}" words
  case "\${COMP_WORDS[1]}" in
${cases}
    *) words="${verbs.map(verb => verb.name()).join(' ')}" ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then words="${verbs.map(verb => verb.name()).join(' ')}"; fi
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    *) if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "$words" -- "$current")); else COMPREPLY=($(compgen -f -- "$current")); fi ;;
  esac
}
complete -o filenames -F _liveos liveos
`
  return shell === 'bash' ? bash : `autoload -U +X bashcompinit && bashcompinit\n${bash}`
}
