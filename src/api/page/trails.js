// How long probes took to connect, and which failed, since the page was opened: for sparklines and charts.

// The samples that are kept. With 10,000 addresses that is 12 MB.
const LENGTH = 240;

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
        trail = { rtt: new Float32Array(LENGTH).fill(NaN), failures: new Uint8Array(LENGTH), seen: 0 };
        this.byKey.set(key, trail);
      }
      trail.rtt[place] = address.failures > 0 ? NaN : (address.rtt_ms ?? NaN);
      trail.failures[place] = Math.min(address.failures ?? 0, 255);
      trail.seen = this.taken;
    }
    for (const [key, { seen }] of this.byKey) if (seen !== this.taken) this.byKey.delete(key);
  }

  // The samples of an address, oldest first: seconds since 1970, milliseconds or NaN, consecutive failures.
  of(key) {
    const trail = this.byKey.get(key);
    const count = trail ? Math.min(this.taken, LENGTH) : 0;
    const place = (at) => (this.taken - count + at) % LENGTH;
    const series = (ring) => Array.from({ length: count }, (_, at) => ring[place(at)]);
    return {
      times: series(this.times).map((time) => time / 1000),
      rtt: trail ? series(trail.rtt) : [],
      failures: trail ? series(trail.failures) : [],
    };
  }
}

export const trails = new Trails();

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
