//go:build race

package e2e_test

// raceEnabled says that the race detector makes everything slower.
const raceEnabled = true
