-- POSTs {"name": ..., "n": 41}; the first argument after -- is the length of the name.
-- Ends with one line for run.py: RESULT requests microseconds p50 p99 max and the errors.

function init(args)
   local name = string.rep("x", tonumber(args[1]) or 5)
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   wrk.body = '{"name":"' .. name .. '","n":41}'
   -- Written once: to build the request each time would cost the loader, not the server.
   request_text = wrk.format()
end

function request()
   return request_text
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format("RESULT %d %d %d %d %d %d %d %d %d %d\n",
      summary.requests, summary.duration,
      latency:percentile(50), latency:percentile(99), latency.max,
      e.connect, e.read, e.write, e.status, e.timeout))
end
