//go:build !race

package test

// raceDetector tells whether the tests run with the race detector; the server
// is then built with it too.
const raceDetector = false
