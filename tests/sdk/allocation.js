// Computes with the vendor's own code which visitor gets which variant, for a whole file at once.
//
// in:  {"experiences": [{id, traffic, distribution, audience}], "pairs": [[experience index, stableId, audiences]]}
// out: a line for each pair: [hash for traffic, fraction for traffic, hash for distribution, fraction for distribution,
//      whether the experience matches, variant index]; a hash is the 32-bit number of murmurhash-js

const fs = require('fs');
const { murmur3 } = require('murmurhash-js');
const {
  getDistributionRandom,
  getTrafficRandom,
  isExperienceMatch,
  selectDistribution,
} = require('@ninetailed/experience.js-shared');

// An experience as the SDK's mappers make it of an entry: each share becomes a range that begins where the sum of
// those before it ends.
const mapped = ({ id, traffic, distribution, audience }) => {
  const sums = distribution.reduce((all, share) => [...all, all[all.length - 1] + share], [0]);
  return {
    id,
    audience: audience === null ? undefined : { id: audience },
    trafficAllocation: traffic,
    distribution: distribution.map((_, index) => ({ index, start: sums[index], end: sums[index + 1] })),
  };
};

const { experiences, pairs } = JSON.parse(fs.readFileSync(0, 'utf8'));
const known = experiences.map(mapped);
const lines = pairs.map(([index, stableId, audiences]) => {
  const experience = known[index];
  const profile = { stableId, audiences };
  return JSON.stringify([
    murmur3(`traffic-${experience.id}-${stableId}`, 0),
    getTrafficRandom(profile, experience),
    murmur3(`distribution-${experience.id}-${stableId}`, 0),
    getDistributionRandom(profile, experience),
    isExperienceMatch({ experience, profile }),
    selectDistribution({ experience, profile }).index,
  ]);
});
process.stdout.write(`${lines.join('\n')}\n`);
