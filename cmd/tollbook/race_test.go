//go:build race

package main

// raceDetector says that tests are an order of magnitude slower.
const raceDetector = true
