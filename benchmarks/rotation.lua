-- wrk: sends the requests of a file in rotation, each with a number that no other has, and prints JSON at the end.
-- Arguments: the file, whose requests end with a NUL byte; the first eight characters of every number.
-- Where a request has 32 zeros, its number goes.

local heads, tails, count, sent, prefix = {}, {}, 0, 0, ""

function init(arguments)
   prefix = arguments[2]
   for text in io.open(arguments[1], "rb"):read("*a"):gmatch("([^%z]+)") do
      local from, to = text:find(("0"):rep(32), 1, true)
      count = count + 1
      heads[count] = from and text:sub(1, from - 1) or text
      tails[count] = from and text:sub(to + 1) or nil
   end
end

function request()
   sent = sent + 1
   local index = sent % count + 1
   if tails[index] then
      return heads[index] .. prefix .. ("%024x"):format(sent) .. tails[index]
   end
   return heads[index]
end

function done(summary, latency)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   local line = '{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}\n'
   io.write(line:format(
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, failed
   ))
end
