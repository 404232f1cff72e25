// What the single executable runs first: the one way in which a module gets into it. A module is either in the
// executable itself, as the text that was built into it, or part of Node. Nothing is ever loaded from the Machine's
// disk, nor out of a cache: an image that sets NODE_COMPILE_CACHE would have Node's own loader run bytes of its choice.
// There is no bundling of the trusted process: its modules are the files of src/proxy with their types blanked out.

import { getAsset } from 'node:sea'
import { type Module, SourceTextModule, SyntheticModule } from 'node:vm'

/** Where a module of ours says that it is: `dotfly:/proxy/main.js`. */
const ROOT = 'dotfly:/'

const modules = new Map<string, Module>()

/** The module, with all that it imports. Throws where it is neither in the executable nor part of Node. */
function find(specifier: string, from: string): Module {
  const url = specifier.startsWith('.') ? new URL(specifier, from).href : specifier
  const known = modules.get(url)
  if (known !== undefined) return known
  if (!url.startsWith(ROOT)) {
    const module = ofNode(url)
    modules.set(url, module)
    return module
  }
  const module = ours(url)
  modules.set(url, module) // before its imports, which may lead back to it
  module.linkRequests(module.moduleRequests.map((request) => find(request.specifier, url)))
  return module
}

function ours(url: string): SourceTextModule {
  return new SourceTextModule(getAsset(url.slice(ROOT.length), 'utf8'), {
    identifier: url,
    initializeImportMeta: (meta) => {
      meta.url = url
      meta.filename = url // it has no file
    },
    importModuleDynamically: (specifier) => run(specifier, url),
  })
}

function ofNode(name: string): SyntheticModule {
  const found: object | undefined = process.getBuiltinModule(name)
  if (found === undefined) throw new Error(`${name} is neither in the executable nor part of Node`)
  const names = Object.keys(found).filter((key) => key !== 'default')
  const module = new SyntheticModule(
    [...names, 'default'],
    () => {
      for (const key of names) module.setExport(key, Reflect.get(found, key))
      module.setExport('default', found)
    },
    { identifier: name },
  )
  return module
}

async function run(specifier: string, from: string): Promise<Module> {
  const module = find(specifier, from)
  if (module.status === 'unlinked') {
    if (module instanceof SourceTextModule) module.instantiate()
    else await module.link(() => module)
  }
  await module.evaluate()
  return module
}

await run('./sea/start.js', ROOT)
