package control

// MaxJobs and MaxTokens are how many a tenant may have.
const (
	MaxJobs   = maxJobs
	MaxTokens = maxTokens
)
