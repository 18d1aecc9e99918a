import { readFileSync } from 'node:fs'

/** As much of JSON Schema as ours uses. */
interface Schema {
  readonly [keyword: string]: unknown
}

/** Words that check nothing. */
const WORDS = ['$schema', '$defs', 'title', 'description']

const typeOf = (value: unknown): string[] =>
  value === null
    ? ['null']
    : Array.isArray(value)
      ? ['array']
      : Number.isInteger(value)
        ? ['integer', 'number']
        : [typeof value]

type Check = (value: unknown, wanted: never, schema: Schema, at: string, root: Schema) => string[]

const isObject = (value: unknown): value is Record<string, unknown> => typeOf(value)[0] === 'object'

/** Each keyword; one that is not here ends the test, so that none is passed over. */
const CHECKS: Readonly<Record<string, Check>> = {
  $ref: (value, wanted: string, _, at, root) =>
    breaches(value, (root.$defs as Record<string, Schema>)[wanted.replace('#/$defs/', '')]!, at, root),
  type: (value, wanted: string | string[], _, at) =>
    [wanted].flat().some(type => typeOf(value).includes(type)) ? [] : [`${at} is ${typeOf(value)[0]}, not ${wanted}`],
  const: (value, wanted, _, at) => (value === wanted ? [] : [`${at} is ${value}, not ${wanted}`]),
  enum: (value, wanted: unknown[], _, at) => (wanted.includes(value) ? [] : [`${at} is ${value}, none of ${wanted}`]),
  minimum: (value, wanted: number, _, at) =>
    typeof value === 'number' && value < wanted ? [`${at} is ${value}, below ${wanted}`] : [],
  items: (value, wanted: Schema, _, at, root) =>
    Array.isArray(value) ? value.flatMap((item, n) => breaches(item, wanted, `${at}[${n}]`, root)) : [],
  required: (value, wanted: string[], _, at) =>
    isObject(value) ? wanted.filter(name => !(name in value)).map(name => `${at} has no ${name}`) : [],
  properties: (value, wanted: Record<string, Schema>, _, at, root) =>
    isObject(value)
      ? Object.entries(value).flatMap(([name, item]) =>
          wanted[name] ? breaches(item, wanted[name], `${at}.${name}`, root) : [],
        )
      : [],
  additionalProperties: (value, wanted: boolean, schema, at) =>
    !wanted && isObject(value)
      ? Object.keys(value)
          .filter(name => !(name in (schema.properties as object)))
          .map(name => `${at} has ${name}`)
      : [],
}

/** Where a value is not what a schema asks; nothing where it is. */
export const breaches = (value: unknown, schema: Schema, at = '$', root = schema): string[] =>
  Object.entries(schema).flatMap(([keyword, wanted]) => {
    if (WORDS.includes(keyword)) return []
    const check = CHECKS[keyword]
    if (!check) throw new Error(`this validator does not know ${keyword}`)
    return check(value, wanted as never, schema, at, root)
  })

/** A schema of docs/schema. */
export const readSchema = (name: string): Schema =>
  JSON.parse(readFileSync(new URL(`../../docs/schema/${name}`, import.meta.url), 'utf8')) as Schema
