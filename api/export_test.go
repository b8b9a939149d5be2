package api

// NewHTTPIntakeOf is NewHTTPIntake with limits that a test can reach.
var NewHTTPIntakeOf = newHTTPIntake
