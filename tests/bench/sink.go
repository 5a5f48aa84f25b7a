package main

import "context"

func benchSink(context.Context, options) ([]figure, error) { return nil, nil }
