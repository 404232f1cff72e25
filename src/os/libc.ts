// Functions of libc, each bound when it is first called. To bind one takes Node 30 us, for it looks for a place near its
// own code; init knows over fifty and calls half of them.

import ffi from 'node:ffi'

type Signatures = NonNullable<Parameters<typeof ffi.dlopen>[1]>
type Functions<T extends Signatures> = ReturnType<typeof ffi.dlopen<T>>['functions']

/** The functions with these signatures, of whatever is loaded already. A name that does not exist throws at its first
 * call. */
export function bind<const T extends Signatures>(signatures: T): Functions<T> {
  const bound = {}
  let lib: ffi.DynamicLibrary | undefined
  for (const name of Object.keys(signatures)) {
    Object.defineProperty(bound, name, {
      configurable: true,
      get() {
        lib ??= new ffi.DynamicLibrary(null)
        const value = lib.getFunction(name, signatures[name] ?? {})
        Object.defineProperty(bound, name, { value })
        return value
      },
    })
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each name was just given its own signature
  return bound as Functions<T>
}
