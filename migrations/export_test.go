package migrations

// ApplyTo applies the migrations up to a version, as a program of then has left them.
var ApplyTo = applyTo
