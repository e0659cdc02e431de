package control

// MaxJobs is how many jobs of a tenant may be open.
const MaxJobs = maxJobs
