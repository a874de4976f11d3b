// How long probes took to connect and which failed, and the requests of backends, since the page was opened: for sparklines and charts.

// The samples that are kept. With 10,000 addresses that is 12 MB; 19 MB more if all are backends.
const LENGTH = 240;

// The samples of a mean rate: a minute, usually.
const RECENT = 12;

class Trails {
  // When each sample was taken, in a ring that all addresses share.
  times = new Float64Array(LENGTH);
  taken = 0;
  byKey = new Map();

  record(status, at) {
    const place = this.taken % LENGTH;
    this.times[place] = at;
    this.taken += 1;
    for (const [key, address] of addresses(status)) {
      let trail = this.byKey.get(key);
      if (!trail) {
        trail = { rtt: ring(), failures: new Uint8Array(LENGTH), seen: 0 };
        this.byKey.set(key, trail);
      }
      trail.rtt[place] = address.failures > 0 ? NaN : (address.rtt_ms ?? NaN);
      trail.failures[place] = Math.min(address.failures ?? 0, 255);
      if (address.load) recordLoad(trail, place, address.load, at);
      trail.seen = this.taken;
    }
    for (const [key, { seen }] of this.byKey) if (seen !== this.taken) this.byKey.delete(key);
  }

  // The samples of an address, oldest first: seconds since 1970, milliseconds or NaN, consecutive failures; of a backend also the
  // requests and the failed requests per second, or NaN.
  of(key) {
    const trail = this.byKey.get(key);
    const count = trail ? Math.min(this.taken, LENGTH) : 0;
    const place = (at) => (this.taken - count + at) % LENGTH;
    const series = (ring) => (ring ? Array.from({ length: count }, (_, at) => ring[place(at)]) : []);
    return {
      times: series(this.times).map((time) => time / 1000),
      rtt: series(trail?.rtt),
      failures: series(trail?.failures),
      requests: series(trail?.requests),
      errors: series(trail?.errors),
    };
  }

  // The mean rates of these backends lately: requests per second, and the share of them that failed.
  recent(keys) {
    let [requests, errors] = [0, 0];
    for (const key of keys) {
      const trail = this.of(key);
      requests += mean(trail.requests.slice(-RECENT));
      errors += mean(trail.errors.slice(-RECENT));
    }
    return { requests, failed: requests > 0 ? Math.min(1, errors / requests) : 0 };
  }
}

export const trails = new Trails();

const ring = () => new Float32Array(LENGTH).fill(NaN);

function mean(values) {
  const known = values.filter((value) => !Number.isNaN(value));
  return known.length > 0 ? known.reduce((sum, value) => sum + value, 0) / known.length : 0;
}

// The node counts from its start on, and anew for an address that comes back.
function recordLoad(trail, place, { total, failures, server_errors: serverErrors }, at) {
  const counted = { at, total, errors: failures + serverErrors };
  const last = trail.counted ?? counted;
  const seconds = (at - last.at) / 1000;
  const rate = (name) => (seconds > 0 && counted[name] >= last[name] ? (counted[name] - last[name]) / seconds : NaN);
  trail.requests ??= ring();
  trail.errors ??= ring();
  trail.requests[place] = rate("total");
  trail.errors[place] = rate("errors");
  trail.counted = counted;
}

// Every address of a status, with a key that stays.
function* addresses({ regions, pools }) {
  for (const region of regions) {
    for (const endpoint of region.endpoints) {
      for (const it of endpoint.addresses) yield [addressKey("region", region.name, endpoint.name, it), it];
    }
  }
  for (const pool of pools) {
    for (const backend of pool.backends) {
      for (const it of backend.addresses) yield [addressKey("pool", pool.name, backend.name, it), it];
    }
  }
}

export const addressKey = (tier, owner, name, { address }) => `${tier}/${owner}/${name}/${address}`;
