//go:build !go1.27

package acmeclient

func laterKeyTypes() []keyType { return nil }
