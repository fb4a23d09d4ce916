// Unleash in two processes that share one port, as one such service would run on a machine of two cores.
// The first sets up the database and imports the features, then the second starts.
// Arguments: the folder where unleash-server is installed; the file with the features. Unleash reads its environment.

import cluster from 'node:cluster'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [folder, features] = process.argv.slice(2)

if (cluster.isPrimary) {
  cluster.once('listening', () => {
    cluster.once('listening', () => console.log(`http://127.0.0.1:${process.env.HTTP_PORT}`))
    cluster.fork({ DATABASE_DISABLE_MIGRATION: 'true' })
  })
  cluster.on('exit', () => process.exit(1))
  cluster.fork({ IMPORT_FILE: features })
} else {
  const found = createRequire(`${folder}/package.json`).resolve('unleash-server')
  const { start } = await import(pathToFileURL(found))
  await start()
}
