#!/bin/sh
echo a program of the package: "$0"
