/** Prints what was seen outside and inside a namespace, next to each other. */
export function sideBySide(
  rows: readonly (readonly [what: string, outside: string, inside: string])[],
): void {
  const table = [['', 'outside', 'inside'], ...rows]
  const width = (column: number) => Math.max(...table.map((row) => (row[column] ?? '').length))
  const [first, second] = [width(0), width(1)]
  for (const [what = '', outside = '', inside = ''] of table) {
    console.log(`  ${what.padEnd(first)}  ${outside.padEnd(second)}  ${inside}`)
  }
}
