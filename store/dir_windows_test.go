package store

func passingError() error { return errSharingViolation }
