// Package front answers: it is the HTTP side of a Manager. It puts challenges
// before all else, says 503 where there is no certificate yet, and runs the
// two servers of ListenAndServe. What it must know of names comes to it as
// callbacks.
package front
