// Calls Contentful's official client as the lines of the standard input say, and prints what it answers as a line each.
import { createInterface } from 'node:readline';
import { createClient } from 'contentful';

const { url, space, environment, token, retryOnError = false } = JSON.parse(process.argv[2]);
const client = createClient({
  space,
  environment,
  accessToken: token,
  host: new URL(url).host,
  insecure: true,
  retryOnError,
  logHandler: () => {},
});

const ids = (items) => items.map((item) => item.sys.id).sort();

const calls = {
  async sync(query) {
    const found = await client.withoutLinkResolution.sync(query);
    return {
      entries: ids(found.entries),
      deletedEntries: ids(found.deletedEntries),
      fields: Object.fromEntries(found.entries.map((entry) => [entry.sys.id, entry.fields])),
      nextSyncToken: found.nextSyncToken,
    };
  },
  async entries(query) {
    const found = await client.getEntries(query);
    return { total: found.total, items: JSON.parse(found.stringifySafe()).items };
  },
  async entry({ id, ...query }) {
    return JSON.parse(JSON.stringify(await client.getEntry(id, query)));
  },
  async contentTypes() {
    return ids((await client.getContentTypes()).items);
  },
  async locales() {
    return (await client.getLocales()).items.map(({ code, default: isDefault, fallbackCode }) => [code, isDefault, fallbackCode]);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [call, query] = JSON.parse(line);
  try {
    console.log(JSON.stringify({ answer: await calls[call](query) }));
  } catch (error) {
    console.log(JSON.stringify({ error: { name: error.name, message: error.message } }));
  }
}
