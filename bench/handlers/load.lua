-- POSTs a JSON body; the first argument after -- is the file that holds it.
-- Ends with one line for run.py: RESULT requests microseconds p50 p99 p99.9 max and the errors.

function init(args)
   local file = assert(io.open(args[1], "rb"))
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   wrk.body = file:read("*a")
   file:close()
   -- Written once: to build the request each time would cost the loader, not the server.
   request_text = wrk.format()
end

function request()
   return request_text
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format("RESULT %d %d %d %d %d %d %d %d %d %d %d\n",
      summary.requests, summary.duration,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max,
      e.connect, e.read, e.write, e.status, e.timeout))
end
