"""The Lua scripts of the import queue on Redis; `queue.py` says which keys they are called with.

The first argument of every script that writes says whether it is sent again, because its answer may have been lost.
"""

from __future__ import annotations

from ninetailed_wsgi.store.redis.commands import Script

# A member of the names is a digest and the number of a batch about it. The digests of each number are one text.
_NAMES = """
local function remember(names, named, number, first)
  for place = first, #ARGV do
    redis.call('ZADD', names, 0, ARGV[place] .. number)
  end
  if #ARGV >= first then
    redis.call('HSET', named, number, table.concat(ARGV, '', first))
  end
end
local function forget(names, named, number)
  local digests = redis.call('HGET', named, number) or ''
  for first = 1, #digests, 16 do
    redis.call('ZREM', names, string.sub(digests, first, first + 15) .. number)
  end
  redis.call('HDEL', named, number)
end
"""

# again, limit, least number, batch, most bytes, names
PUT = Script(
    _NAMES
    + """
if ARGV[1] == 'again' then
  return redis.error_reply('LOST the answer to a batch')
end
local waiting = redis.call('XLEN', KEYS[1])
if waiting >= tonumber(ARGV[2]) then
  return waiting
end
if (tonumber(redis.call('MEMORY', 'USAGE', KEYS[2], 'SAMPLES', 20) or '0') or 0) >= tonumber(ARGV[5]) then
  return -2
end
local last = tonumber(redis.call('GET', KEYS[3]) or '0')
local number = string.format('%.0f', math.max(last + 1, tonumber(ARGV[3])))
redis.call('XADD', KEYS[1], number .. '-0', 'bytes', #ARGV[4])
redis.pcall('XGROUP', 'CREATE', KEYS[1], 'importers', '0')
redis.call('HSET', KEYS[2], number, ARGV[4])
redis.call('SET', KEYS[3], number)
remember(KEYS[4], KEYS[5], number, 6)
return -1
"""
)

# again, number of a batch, names
INDEX = Script(
    _NAMES
    + """
if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 1 then
  remember(KEYS[2], KEYS[3], ARGV[2], 3)
else
  forget(KEYS[2], KEYS[3], ARGV[2])
end
return 1
"""
)

HEAD = Script(
    """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not first then
  return {}
end
local number = string.match(first[1], '%d+')
return {number, redis.call('HGET', KEYS[2], number), redis.call('GET', KEYS[3])}
""",
    writes=False,
)

# again, consumer, milliseconds after which a consumer counts as dead, the same for a consumer that waits
TAKE = Script("""
local turn = redis.call('GET', KEYS[2])
if turn and turn ~= ARGV[2] then
  redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[4])
  return -1
end
redis.call('DEL', KEYS[3])
if redis.call('XLEN', KEYS[1]) == 0 then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
  return 1
end
local mine = redis.call('XPENDING', KEYS[1], 'importers', '-', '+', 1, ARGV[2])
if #mine > 0 then
  redis.call('XCLAIM', KEYS[1], 'importers', ARGV[2], 0, mine[1][1], 'JUSTID')
  return 1
end
local claimed = redis.call('XAUTOCLAIM', KEYS[1], 'importers', ARGV[2], ARGV[3], '0-0', 'COUNT', 1, 'JUSTID')
if #claimed[2] > 0 then
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], 'importers')) do
    if consumer[2] ~= ARGV[2] and consumer[4] == 0 then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'importers', consumer[2])
    end
  end
  return 1
end
if redis.call('XPENDING', KEYS[1], 'importers')[1] > 0 then
  return 0
end
redis.call('XREADGROUP', 'GROUP', 'importers', ARGV[2], 'COUNT', 1, 'STREAMS', KEYS[1], '>')
return 1
""")

# again, deletion, milliseconds after which a consumer or a deletion counts as dead
TAKE_TURN = Script("""
local turn = redis.call('GET', KEYS[2])
if turn and turn ~= ARGV[2] then
  return 0
end
if not turn and redis.call('EXISTS', KEYS[3]) == 1 then
  return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
if redis.call('XLEN', KEYS[1]) == 0 then
  return 1
end
local pending = redis.call('XPENDING', KEYS[1], 'importers', '-', '+', 1)[1]
if not pending or pending[2] == ARGV[2] then
  return 1
end
if pending[3] < tonumber(ARGV[3]) then
  return 0
end
redis.call('XCLAIM', KEYS[1], 'importers', ARGV[2], 0, pending[1], 'IDLE', ARGV[3], 'JUSTID')
return 1
""")

# again, consumer or deletion, milliseconds after which a consumer counts as dead
LEAVE = Script("""
if redis.call('GET', KEYS[2]) == ARGV[2] then
  redis.call('DEL', KEYS[2])
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 1
end
local mine = redis.call('XPENDING', KEYS[1], 'importers', '-', '+', 1, ARGV[2])
if #mine > 0 then
  redis.call('XCLAIM', KEYS[1], 'importers', ARGV[2], 0, mine[1][1], 'IDLE', ARGV[3], 'JUSTID')
else
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'importers', ARGV[2])
end
return 1
""")

_WAITS = """
local function waits_for(consumer, number)
  if #redis.call('XRANGE', KEYS[1], number, number) == 0 then
    return false
  end
  local pending = redis.call('XPENDING', KEYS[1], 'importers', number, number, 1)[1]
  return not pending or pending[2] == consumer
end
"""

# again, consumer, number, tries
COUNT = Script(
    _WAITS
    + """
if waits_for(ARGV[2], ARGV[3]) then
  redis.call('SET', KEYS[2], ARGV[4])
end
return 1
"""
)

# again, consumer, number, why it is set aside, if it is
FINISH = Script(
    _WAITS
    + _NAMES
    + """
if waits_for(ARGV[2], ARGV[3]) then
  if ARGV[4] == '' then
    redis.call('HDEL', KEYS[2], ARGV[3])
    forget(KEYS[4], KEYS[5], ARGV[3])
  else
    redis.call('HSET', KEYS[3], ARGV[3], ARGV[4])
  end
  redis.call('XACK', KEYS[1], 'importers', ARGV[3])
  redis.call('XDEL', KEYS[1], ARGV[3])
end
return 1
"""
)

STATE = Script(
    """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
return {redis.call('XLEN', KEYS[1]), first[1] and first[1][1] or '', redis.call('HLEN', KEYS[2])}
""",
    writes=False,
)

# again, last number; for each batch its number, the batch, and why it was set aside, if it was
LOAD = Script("""
if tonumber(ARGV[2]) > tonumber(redis.call('GET', KEYS[3]) or '0') then
  redis.call('SET', KEYS[3], ARGV[2])
end
for place = 3, #ARGV, 3 do
  local number, batch, why = ARGV[place], ARGV[place + 1], ARGV[place + 2]
  if redis.call('HSETNX', KEYS[2], number, batch) == 1 then
    if why == '' then
      redis.call('XADD', KEYS[1], number .. '-0', 'bytes', #batch)
      redis.pcall('XGROUP', 'CREATE', KEYS[1], 'importers', '0')
    else
      redis.call('HSET', KEYS[4], number, why)
    end
  end
end
return 1
""")

# again, whether to remove those set aside
CLEAR = Script(
    _NAMES
    + """
for _, number in ipairs(redis.call('HKEYS', KEYS[2])) do
  if redis.call('HEXISTS', KEYS[4], number) == tonumber(ARGV[2]) then
    redis.call('HDEL', KEYS[2], number)
    forget(KEYS[5], KEYS[6], number)
  end
end
if ARGV[2] == '1' then
  redis.call('UNLINK', KEYS[4])
else
  redis.call('UNLINK', KEYS[1], KEYS[3])
end
return 1
"""
)

_OWN_TURN = """
if redis.call('GET', KEYS[1]) ~= ARGV[2] then
  return redis.error_reply('LOST the place of the imports, as it was held for too long')
end
"""

# again, deletion, milliseconds for which turn and changes are kept, number and new batch, if any (empty: removed)
CHANGE = Script(
    _OWN_TURN
    + """
if ARGV[4] then
  redis.call('HSET', KEYS[2], ARGV[4], ARGV[5])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
"""
)

# again, deletion, number of changes
COMMIT = Script(
    _OWN_TURN
    + _NAMES
    + """
local numbers = redis.call('HKEYS', KEYS[2])
if ARGV[1] == 'again' and #numbers == 0 then
  return 1
end
if #numbers ~= tonumber(ARGV[3]) then
  return redis.error_reply('LOST changes of the imports')
end
for _, number in ipairs(numbers) do
  local batch, kept = redis.call('HGET', KEYS[2], number), redis.call('HGET', KEYS[5], number)
  forget(KEYS[6], KEYS[7], number)
  if batch == '' then
    redis.call('HDEL', KEYS[4], number)
    redis.call('HDEL', KEYS[5], number)
    redis.call('XACK', KEYS[3], 'importers', number)
    redis.call('XDEL', KEYS[3], number)
  elseif redis.call('HEXISTS', KEYS[4], number) == 1 then
    redis.call('HSET', KEYS[4], number, batch)
    if kept then
      kept = cjson.decode(kept)
      kept.reason = string.match(kept.reason, '^[^:]*')
      redis.call('HSET', KEYS[5], number, cjson.encode(kept))
    end
  end
end
redis.call('DEL', KEYS[2])
return 1
"""
)
