/**
 * V8 compiles a function when it is called for the first time, which would be in each copy. Here it is not called: V8 wants to
 * know how many properties the objects of a class may have, and for that compiles what the class extends.
 */
export function compile(fn: object): void {
  class Extending {}
  Object.setPrototypeOf(Extending, fn)
  new Extending()
}
